//! All nodes of a run, and what they share.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use atoll_blobstore::{BlobStore, Fault, Operation};
use atoll_metadata::{Command, NodeRole, RegisterNode, read};
use atoll_types::{Digest, NodeId, ObjectName, RegionId};
use parking_lot::Mutex;

use crate::checkers::wanted;
use crate::content::Content;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::history::{Event, History, Register};
use crate::judge::Judge;
use crate::log::Log;
use crate::net::Net;
use crate::node::{Node, Place, address};
use crate::trace::Trace;
use crate::weather::Weather;

const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];

/// A simulated cluster.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) net: Arc<Net>,
    pub(crate) log: Arc<Log>,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) weather: Weather,
    pub(crate) content: Content,
    pub(crate) places: Vec<Place>,
    nodes: Mutex<Vec<Option<Node>>>,
    lives: Mutex<u64>,
    history: Mutex<History>,
    /// Regions whose fetching somebody wanted to pause.
    pub(crate) paused: Mutex<BTreeSet<RegionId>>,
    /// Clients begin nothing new.
    pub(crate) over: AtomicBool,
    spool: PathBuf,
}

impl World {
    /// A cluster of three to five nodes in three regions, all running.
    pub(crate) async fn new(seed: u64, spool: PathBuf, trace: Trace) -> anyhow::Result<Arc<Self>> {
        let dice = |actor: &str| Dice::new(seed, actor);
        let judge = Judge::new(trace.clone());
        let nodes = 3 + dice("nodes").below(3);
        let net = Net::new(nodes, dice("net"), judge.clone());
        let log = Log::new(net.clone(), dice("log"), judge.clone(), trace.clone());
        let places = places(nodes, &log, &dice, &judge, &trace).await?;
        let content = Content::new(&mut dice("content"))?;
        let running = places.iter().map(|_| None).collect();
        let world = Arc::new(Self {
            seed,
            net,
            log: log.clone(),
            judge,
            trace,
            weather: Weather::new(),
            content,
            places,
            nodes: Mutex::new(running),
            lives: Mutex::new(0),
            history: Mutex::default(),
            paused: Mutex::default(),
            over: AtomicBool::new(false),
            spool,
        });
        tokio::spawn(log.elect());
        for index in 0..nodes {
            world.start(index)?;
        }
        Ok(world)
    }

    /// Starts a node that does not run.
    pub(crate) fn start(&self, index: usize) -> anyhow::Result<()> {
        let life = {
            let mut lives = self.lives.lock();
            *lives += 1;
            *lives
        };
        let spool = self.spool.join(index.to_string());
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(life);
        let node = Node::start(&self.places[index], &self.log, &self.net, &spool, seed, self.rots())?;
        self.trace.note("node", &format!("{index} starts"));
        self.nodes.lock()[index] = Some(node);
        Ok(())
    }

    /// Whether objects at rest are damaged in this run. In the others, bytes are wrong in passing.
    pub(crate) fn rots(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// Kills a node. What it had not synced may be gone.
    pub(crate) async fn crash(&self, index: usize) {
        let Some(node) = self.nodes.lock()[index].take() else { return };
        self.trace.note("node", &format!("{index} dies"));
        node.life.cancel();
        self.log.crash(index);
        self.count_store_faults(&node);
        let disk = &self.places[index].disk;
        disk.excuse(disk.writers());
        disk.left_untold(wanted::unnamed(self, &self.places[index].region).await);
        disk.lose_power(index).await;
    }

    /// Adds up what went wrong in a node's store.
    fn count_store_faults(&self, node: &Node) {
        for fired in node.store_faults() {
            let name = format!("store: {} in {:?}", kind(fired.fault), fired.operation);
            self.judge.fired_times(&name, fired.times);
            // An object that is there and whose writer was told that it is not, or one that could not be removed.
            let leaves_one = matches!(
                (fired.operation, fired.fault),
                (Operation::Complete, Fault::LostAnswer) | (Operation::Delete, Fault::Unavailable)
            );
            if leaves_one {
                self.places[node.index].disk.excuse(fired.times);
            }
        }
    }

    /// Counts the faults of the stores of all that run; once, in the end.
    pub(crate) fn count_all_store_faults(&self) {
        self.running().iter().for_each(|node| self.count_store_faults(node));
    }

    pub(crate) fn node(&self, index: usize) -> Option<Node> {
        self.nodes.lock().get(index).cloned().flatten()
    }

    pub(crate) fn running(&self) -> Vec<Node> {
        self.nodes.lock().iter().flatten().cloned().collect()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn note(&self, register: Register, event: Event) {
        self.history.lock().note(register, event);
    }

    pub(crate) fn removing(&self, register: Register) {
        self.history.lock().removing(register);
    }

    pub(crate) fn history<R>(&self, look: impl FnOnce(&History) -> R) -> R {
        look(&self.history.lock())
    }

    /// The disk of a region.
    pub(crate) fn disk(&self, region: &RegionId) -> Option<&Arc<Disk>> {
        self.places.iter().find(|place| place.region == *region).map(|place| &place.disk)
    }

    pub(crate) fn regions(&self) -> BTreeSet<RegionId> {
        self.places.iter().map(|place| place.region.clone()).collect()
    }

    /// Whether a region's store really holds a blob under a name. What has rotted there counts as held: nobody knows that
    /// before it is read.
    pub(crate) async fn holds(&self, region: &RegionId, digest: &Digest, object: &ObjectName) -> bool {
        let Some(disk) = self.disk(region) else { return false };
        let bytes = disk.bytes(object).await;
        bytes.is_some() && (disk.is_damaged(object) || bytes.as_ref() == self.content.bytes(digest))
    }

    /// The copies of a blob that are recorded and whose objects are there, undamaged.
    pub(crate) async fn sound_copies(&self, digest: &Digest) -> Vec<(RegionId, ObjectName)> {
        let blob = self.log.truth(|truth| read::blob(&truth.kv, digest)).ok().flatten();
        let mut sound = Vec::new();
        for (region, object) in blob.map(|blob| blob.copies).unwrap_or_default() {
            let Some(disk) = self.disk(&region) else { continue };
            if !disk.is_damaged(&object) && disk.objects.stat(&object).await.is_ok() {
                sound.push((region, object));
            }
        }
        sound
    }
}

/// The name of a fault, without how long it takes.
fn kind(fault: Fault) -> String {
    let name = format!("{fault:?}");
    name.split('(').next().unwrap_or_default().to_owned()
}

/// The regions with their disks, and their nodes, all registered.
async fn places(
    nodes: usize,
    log: &Arc<Log>,
    dice: &impl Fn(&str) -> Dice,
    judge: &Judge,
    trace: &Trace,
) -> anyhow::Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    for index in 0..nodes {
        let region: RegionId = REGIONS[index % REGIONS.len()].parse()?;
        let place = match places.iter().find(|place| place.region == region) {
            Some(place) => Place { index, region, store: place.store, disk: place.disk.clone() },
            None => {
                let disk = Disk::new(dice(&format!("disk {region}")), judge.clone(), trace.clone());
                let store = disk.objects.identify(log.cluster).await.context("the store has no marker")?;
                log.must(Command::RegisterRegion { region: region.clone() });
                log.must(Command::SetStore { region: region.clone(), store, replaces: None });
                Place { index, region, store, disk }
            }
        };
        log.must(Command::RegisterNode(Box::new(RegisterNode {
            node: NodeId(index as u64),
            name: format!("{}-{index}", place.region).parse()?,
            region: place.region.clone(),
            role: NodeRole::Voter,
            grpc_address: address(index),
            http_address: address(index),
            admin_address: address(index),
            store: Some(place.store),
            store_kind: "s3".into(),
            feature_level: 1,
            incarnation: None,
        })));
        places.push(place);
    }
    Ok(places)
}

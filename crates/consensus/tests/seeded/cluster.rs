//! Three nodes in one process, each with its own ways to the others.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use atoll_consensus::{Clock, Group, GroupOptions, Member, Proposal, Retention, SystemClock, Timing};
use atoll_metadata::Command;
use atoll_storage::{FolderIdentity, Resources};
use atoll_types::{ClusterId, NodeId, RequestId};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::counts::Counts;
use crate::history::History;
use crate::image::{self, Crash};
use crate::link::Link;
use crate::node::{Handle, Node, Start};
use crate::trouble::Troubles;

/// Nothing takes longer once all is mended.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) troubles: Arc<Troubles>,
    /// How often which fault fired.
    pub(crate) fired: Mutex<Counts>,
    id: ClusterId,
    retention: Retention,
    members: Vec<Member>,
    /// From, to.
    links: Vec<Vec<Option<Link>>>,
    nodes: Vec<Mutex<Option<Node>>>,
    doors: Vec<watch::Sender<Option<std::net::SocketAddr>>>,
    clocks: Vec<Arc<Hands>>,
    dir: TempDir,
}

/// How a node ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// In peace.
    Stopped,
    /// Its tasks are dropped where they stand, and its folder stays.
    Abandoned,
    /// Its folder is as a kill, or a loss of power, at some moment would have left it.
    Crashed(Crash),
}

/// A wall clock that is wrong by so many milliseconds.
#[derive(Debug, Default)]
struct Hands {
    off_ms: AtomicI64,
    right: SystemClock,
}

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        self.right.wall_ms().saturating_add_signed(self.off_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.right.monotonic()
    }
}

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

impl Cluster {
    pub(crate) async fn formed(count: usize, retention: Retention, troubles: Arc<Troubles>) -> Self {
        let member = |index: usize| Member {
            node: NodeId(index as u64 + 1),
            name: format!("node-{}", index + 1).parse().expect("a name"),
            region: format!("region-{}", index + 1).parse().expect("a name"),
            // Nobody dials it: each node has ways of its own to the others.
            grpc_address: format!("127.0.0.1:{}", index + 1),
        };
        let doors: Vec<watch::Sender<_>> = (0..count).map(|_| watch::Sender::default()).collect();
        let mut links = Vec::new();
        for from in 0..count {
            let mut ways = Vec::new();
            for (to, door) in doors.iter().enumerate() {
                ways.push(if from == to { None } else { Some(Link::to(door.subscribe()).await) });
            }
            links.push(ways);
        }
        let mut dir = tempfile::tempdir().expect("a folder");
        // What a failed run leaves is to be looked at.
        dir.disable_cleanup(true);
        let (nodes, clocks) = ((0..count).map(|_| Mutex::default()).collect(), (0..count).map(|_| Arc::default()));
        let (id, members, clocks) = (ClusterId::random(), (0..count).map(member).collect(), clocks.collect());
        let fired = Mutex::default();
        let cluster = Self { troubles, fired, id, retention, members, links, nodes, doors, clocks, dir };
        cluster.form().await;
        cluster
    }

    async fn form(&self) {
        for index in 0..self.len() {
            self.start(index).await;
        }
        for index in 0..self.len() {
            let members = self.members.clone();
            let formed = self.running(index).ask(|group| async move { group.initialize(&members).await }).await;
            formed.expect("it runs").expect("it is formed");
        }
        self.settle().await;
        let name = Command::InitCluster { cluster: self.id, epoch: 0 };
        let (request, seen, deadline) = (RequestId::random(), self.running(0).group.applied(), soon());
        let (actor, client_address) = (String::new(), String::new());
        let named = Proposal { command: name, request, seen, may_be_retry: false, actor, client_address, deadline };
        let named = self.running(0).ask(|group| async move { group.propose(named).await }).await;
        named.expect("it runs").expect("the cluster is named");
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Nothing is to be looked at any more.
    pub(crate) async fn remove(mut self) {
        for index in 0..self.len() {
            self.end(index, End::Stopped).await;
        }
        self.dir.disable_cleanup(false);
    }

    fn data(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("node-{}", index + 1))
    }

    fn options(&self, index: usize) -> GroupOptions {
        let ways = self.links[index].iter().zip(&self.members);
        let peers = ways.filter_map(|(link, member)| Some((member.node, link.as_ref()?.address.to_string())));
        GroupOptions {
            timing: Timing::LOCAL,
            retention: self.retention,
            clock: self.clocks[index].clone(),
            resources: Resources::new(4 << 20, 8 << 20),
            peer_addresses: peers.collect(),
            ..GroupOptions::new(self.id, 0, self.members[index].clone(), Arc::new(|_: &str| {}))
        }
    }

    pub(crate) async fn start(&self, index: usize) {
        if self.node(index).is_some() {
            return;
        }
        let (name, data, options) = (self.troubles.thread_name(index), self.data(index), self.options(index));
        let member = &self.members[index];
        let identity = FolderIdentity { cluster: Some(self.id), node: member.node, name: member.name.clone() };
        let node = Node::start(Start { name, data, identity, options }, &self.troubles).await;
        self.doors[index].send_replace(Some(node.address));
        *self.nodes[index].lock() = Some(node);
        futures::future::join_all(self.links_of(index).map(Link::join)).await;
        self.assert_whole(index).await;
    }

    /// Ends a node, if it runs.
    pub(crate) async fn end(&self, index: usize, how: End) {
        if self.node(index).is_none() {
            return;
        }
        match how {
            End::Crashed(crash) => self.crash(&[index], crash).await,
            End::Stopped => self.take(index).stop().await,
            End::Abandoned => self.take(index).abandon().await,
        }
    }

    /// Crashes nodes that run at once. Each goes on for a while in which it hears and is not heard, and its image is of
    /// a moment in that: so it is busy, and has all that anybody was told by it, the others that crash among them.
    pub(crate) async fn crash(&self, indices: &[usize], crash: Crash) {
        for index in indices {
            self.running(*index).silence();
            let calls = self.links[*index].iter().flatten().map(Link::mute_caller);
            let answers = self.links.iter().filter_map(|ways| ways[*index].as_ref()).map(Link::mute_callee);
            futures::future::join(futures::future::join_all(calls), futures::future::join_all(answers)).await;
        }
        sleep(crash.muted).await;
        let images = indices.iter().map(|index| take_image(self.data(*index), crash));
        for writes in futures::future::join_all(images).await {
            self.fired.lock().note("images");
            self.fired.lock().note_times("images after a loss of power", u64::from(crash.kept < 1.0));
            self.fired.lock().note_times("images amid writes", u64::from(writes));
        }
        for index in indices {
            futures::future::join_all(self.links_of(*index).map(Link::sever)).await;
            self.take(*index).abandon().await;
            replace_by_image(self.data(*index)).await;
        }
    }

    fn take(&self, index: usize) -> Node {
        self.doors[index].send_replace(None);
        self.nodes[index].lock().take().expect("it runs")
    }

    /// The way to ask a node, if it runs.
    pub(crate) fn node(&self, index: usize) -> Option<Handle> {
        self.nodes[index].lock().as_ref().map(|node| node.handle.clone())
    }

    pub(crate) fn running(&self, index: usize) -> Handle {
        self.node(index).expect("it runs")
    }

    /// The nodes that run.
    pub(crate) fn all_running(&self) -> impl Iterator<Item = (usize, Handle)> {
        (0..self.len()).filter_map(|index| Some((index, self.node(index)?)))
    }

    /// The node that leads, as it believes itself.
    pub(crate) fn leader(&self) -> Option<usize> {
        let mut running = self.all_running();
        running.find(|(_, node)| node.group.leader() == Some(node.group.node())).map(|(index, _)| index)
    }

    /// All ways of a node, there and back.
    fn links_of(&self, index: usize) -> impl Iterator<Item = &Link> {
        let back = self.links.iter().filter_map(move |ways| ways[index].as_ref());
        self.links[index].iter().flatten().chain(back)
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> Option<&Link> {
        self.links[from][to].as_ref()
    }

    /// Cuts or mends the way of one node to another.
    pub(crate) fn set_cut(&self, from: usize, to: usize, cut: bool) {
        if let Some(link) = self.link(from, to) {
            link.set_cut(cut);
        }
    }

    pub(crate) fn set_clock(&self, index: usize, off_ms: i64) {
        self.clocks[index].off_ms.store(off_ms, Ordering::Relaxed);
    }

    /// Hands the lead of one node to another. Whether it was.
    pub(crate) async fn hand_over(&self, from: usize, to: usize) -> bool {
        let (to, deadline) = (self.members[to].node, Instant::now() + Duration::from_secs(3));
        let Some(leader) = self.node(from) else { return false };
        let handed = leader.ask(move |group| async move { group.transfer_leader(to, deadline).await }).await;
        handed.is_some_and(|handed| handed.is_ok())
    }

    /// All ways are mended, and all nodes run.
    pub(crate) async fn mend(&self) {
        for link in self.links.iter().flatten().flatten() {
            link.set_cut(false);
            link.set_pace(None);
        }
        for index in 0..self.len() {
            self.start(index).await;
        }
    }

    /// Waits until every node has passed a barrier.
    pub(crate) async fn settle(&self) {
        for index in 0..self.len() {
            let node = self.running(index);
            let settled = node.ask(|group| async move {
                group.wait_ready(soon()).await?;
                group.barrier(soon()).await
            });
            settled.await.expect("it runs").unwrap_or_else(|e| panic!("no barrier at node {}: {e}", index + 1));
        }
    }

    /// Counts a node's installs, as its folder does.
    pub(crate) fn installs_on_disk(&self, index: usize) -> u64 {
        let current = std::fs::read_to_string(self.data(index).join("state/CURRENT")).expect("it names a database");
        current.trim_end().strip_prefix("db-").and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Whether a snapshot is arriving at a node.
    pub(crate) fn is_receiving(&self, index: usize) -> bool {
        let Ok(names) = std::fs::read_dir(self.data(index).join("snapshots")) else { return false };
        names.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("arriving-"))
    }

    /// Every node holds what clients were told.
    pub(crate) async fn assert_told(&self, history: &History) {
        for index in 0..self.len() {
            let mut held = None;
            // It is run again where a read in it fails since the state has moved on.
            let read = self.running(index).group.read_with(&mut |kv| held = Some(history.held(kv)));
            read.expect("the state can be read");
            self.troubles.note(&format!("node {} is looked at", index + 1));
            history.check_end(&held.expect("it was read").expect("readable"));
        }
    }

    /// All nodes have the same state at the newest revision.
    pub(crate) async fn assert_equal(&self) {
        let newest = self.all_running().map(|(_, node)| node.group.applied()).max().expect("a node");
        let mut hashes = Vec::new();
        for index in 0..self.len() {
            let node = self.running(index);
            let status = node.ask(move |group| async move {
                timeout(PATIENCE, group.status_at(Some(newest), soon())).await.expect("it answers")
            });
            hashes.push(status.await.expect("it runs").state_hash.expect("the hash is kept"));
            self.assert_whole(index).await;
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "the nodes differ at {newest}: {hashes:?}");
    }

    /// The hash that a node keeps is that of all its pairs.
    async fn assert_whole(&self, index: usize) {
        let (revision, hash, kept) = self.running(index).ask(hashes).await.expect("it runs");
        assert_eq!(kept, Some(hash), "the hash that node {} keeps at {revision}", index + 1);
    }
}

fn image_of(data: &Path) -> PathBuf {
    data.with_extension("image")
}

/// Returns whether the node was seen writing.
async fn take_image(data: PathBuf, crash: Crash) -> bool {
    spawn_blocking(move || image::take(&data, &image_of(&data), crash)).await.expect("an image")
}

/// Puts the image in the place of the folder that it was taken of, once nobody has that open any more: a database that
/// is still to be closed would clear away, in the folder of its name, what it does not know.
async fn replace_by_image(data: PathBuf) {
    let replace = move || {
        let (lock, until) = (File::open(data.join("atoll.lock")).expect("its lock"), Instant::now() + PATIENCE);
        while lock.try_lock().is_err() {
            assert!(Instant::now() < until, "the folder stays locked");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::remove_dir_all(&data).expect("the folder goes");
        std::fs::rename(image_of(&data), &data).expect("the image takes its place");
    };
    spawn_blocking(replace).await.expect("replaced");
}

/// Computed, and kept.
async fn hashes(group: Group) -> (u64, u128, Option<u128>) {
    let (revision, hash) = group.recompute_hash().await.expect("the state can be read");
    // The pairs may be read a moment before the hash is known to be theirs.
    let until = soon();
    while group.state_hash_at(revision).is_none() && group.applied() <= revision && Instant::now() < until {
        sleep(Duration::from_millis(1)).await;
    }
    (revision.0, hash, group.state_hash_at(revision))
}

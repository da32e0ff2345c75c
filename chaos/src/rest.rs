//! What is looked at once the last fault is healed: that the cluster heals, and then that all is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::checkers::{i08_final_deletes::is_final, i13_bounds::unfinished};
use crate::client::Client;
use crate::cluster::{Cluster, NODES};
use crate::content::{Blob, Image};
use crate::history::{
    Brought, Deleted, HashCheck, Healing, Outcome, Pushed, Recorder, Span, StoresAtRest, TagAction, TagAnswer, What,
};
use crate::stores::{Stores, temporary_files};
use crate::workload::{BlobRead, Gone, Known, Why, World, brought};

/// How long a cluster may take to heal.
const HEALING_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long the push that shows it may take to be everywhere.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
/// Readers of the audit.
const READERS: usize = 4;
/// Deleted blobs of earlier rounds that an audit looks for; those of a round that are kept for later ones.
const GONE_AGAIN_MAX: usize = 200;
const GONE_OF_ROUND_MAX: usize = 40;
/// Of what earlier rounds did.
const BEFORE: Span = Span { node: 0, start: 0, end: 0 };

/// Waits until the cluster is healed, and writes down how long that took and what was missing.
pub(crate) fn heal(cluster: &mut Cluster, recorder: &Recorder) {
    let start = Instant::now();
    let healing = loop {
        let missing = missing(cluster);
        if missing.is_empty() {
            break Healing { took: Some(start.elapsed()), missing };
        }
        if start.elapsed() > HEALING_MAX {
            break Healing { took: None, missing };
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    recorder.add(|h| h.healing = Some(healing));
}

/// What is not yet as it must be.
fn missing(cluster: &mut Cluster) -> Vec<String> {
    let mut missing = Vec::new();
    for node in 0..NODES {
        if !cluster.is_alive(node) {
            missing.push(format!("{} does not run\n{}", cluster.desk.nodes[node].name, cluster.log_tail(node)));
        } else if !cluster.client(node).ready() {
            missing.push(format!("{} takes no pushes", cluster.desk.nodes[node].name));
        }
    }
    if !missing.is_empty() {
        return missing;
    }
    let leaders: Vec<usize> = (0..NODES).filter(|n| cluster.desk.raft(*n).is_some_and(|s| s.leads)).collect();
    if leaders.len() != 1 {
        missing.push(format!("these lead: {leaders:?}"));
    }
    for node in 0..NODES {
        match cluster.desk.lag(node) {
            Ok((_, regions)) if regions.len() != NODES => {
                missing.push(format!("node {node} knows the lag of {} regions", regions.len()));
            }
            Ok((_, regions)) => missing.extend(
                regions
                    .iter()
                    .filter(|r| r.blobs != Some(0))
                    .map(|r| format!("node {node} says that {} lacks {:?} blobs", r.region, r.blobs)),
            ),
            Err(error) => missing.push(format!("{error:#}")),
        }
    }
    if let Err(error) = cluster.desk.ask(0, &["cluster", "check"]) {
        missing.push(format!("{error:#}"));
    }
    if missing.is_empty() {
        missing.extend(fresh_push(cluster).err().map(|e| format!("{e:#}")));
    }
    missing
}

/// A push at one node pulls at all.
fn fresh_push(cluster: &Cluster) -> anyhow::Result<()> {
    let node = rand::random_range(0..NODES);
    let image = Image::new(rand::random(), vec![Blob::new(rand::random(), 5_000)], None);
    let at = cluster.client(node);
    let mut replies: Vec<_> = image.blobs.iter().map(|b| at.push_blob("healed/fresh", &b.content())).collect();
    let path = format!("/v2/healed/fresh/manifests/{}", image.digest);
    replies.push(at.call("PUT", &path, &[("content-type", crate::content::MANIFEST)], &image.manifest));
    if let Some(refused) = replies.iter().find(|r| r.outcome_of_write() != Outcome::Ok) {
        bail!("a fresh push at node {node} got {} {}", refused.status(), refused.text());
    }
    for reader in (0..NODES).map(|n| cluster.client(n)) {
        pulls(&reader, &path, &image.manifest)?;
        for blob in &image.blobs {
            pulls(&reader, &format!("/v2/healed/fresh/blobs/{}", blob.digest), &blob.content())?;
        }
    }
    Ok(())
}

fn pulls(reader: &Client, path: &str, right: &[u8]) -> anyhow::Result<()> {
    let reply = reader.get(path, &[]);
    if brought(&reply, || right.to_vec()) != Brought::Right {
        bail!("a fresh push does not pull at node {}: {path}: {} {}", reader.node, reply.status(), reply.text());
    }
    Ok(())
}

/// What earlier rounds leave to be looked at again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    images: Vec<Known>,
    /// Blobs that were deleted and are not linked again by their repository, to which no later round pushes.
    gone: Vec<Gone>,
    /// Upload sessions that nobody ended.
    unfinished: u64,
}

impl Ledger {
    /// Takes over what a round pushed and did not delete, and some of what it did.
    pub(crate) fn add(&mut self, world: &World) {
        self.images.extend(world.known());
        let gone: Vec<Gone> =
            world.recorder.look(|h| world.gone().into_iter().filter(|g| is_final(h, &g.deleted)).collect());
        self.gone.extend(spread(&gone, GONE_OF_ROUND_MAX).cloned());
        self.unfinished += world.recorder.look(unfinished);
    }

    /// Its pushes, as if they had been made in this history.
    fn pushes(known: &Known) -> impl Iterator<Item = Pushed> + '_ {
        known.image.children.iter().chain([&known.image]).flat_map(|image| Self::pushes_of(known, image))
    }

    fn pushes_of<'a>(known: &'a Known, image: &'a Image) -> impl Iterator<Item = Pushed> + 'a {
        let pushed = |what, digest: String, bytes: u64, blobs| Pushed {
            what,
            repository: known.repository.clone(),
            digest,
            bytes,
            blobs,
            span: BEFORE,
            outcome: Outcome::Ok,
            status: 201,
            revision: Some(known.revision),
        };
        let manifest = pushed(What::Manifest, image.digest.to_string(), 0, image.references());
        let each =
            image.blobs.iter().map(move |b| pushed(What::Blob, b.digest.to_string(), b.bytes as u64, Vec::new()));
        each.chain([manifest])
    }
}

/// Some of them, evenly spread.
fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(most.max(1)).max(1))
}

/// Looks into the stores, and reads all that was acknowledged, and what was deleted, at every node.
pub(crate) fn audit(cluster: &Cluster, world: &Arc<World>, ledger: &Ledger, again: usize) {
    world.recorder.add(|h| h.unfinished_before = ledger.unfinished);
    let images: Vec<Known> = spread(&ledger.images, again).cloned().collect();
    let gone: Vec<Gone> = spread(&ledger.gone, again.min(GONE_AGAIN_MAX)).cloned().collect();
    world.recorder.add(|h| {
        h.pushed.extend(images.iter().flat_map(Ledger::pushes));
        h.deleted.extend(gone.iter().map(|g| Deleted { span: BEFORE, ..g.deleted.clone() }));
    });
    // First: a pull may heal what a store lacks.
    look_into_stores(cluster, &world.recorder);
    let due = [world.known(), world.taken(), images].concat();
    share_out(&due, |known| read_everywhere(world, known));
    share_out(&[world.gone(), gone].concat(), |gone| look_for(world, gone));
    read_tags(world);
    compare_states(cluster, &world.recorder);
}

/// Among the readers.
fn share_out<T: Sync>(due: &[T], each: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for part in due.chunks(due.len().div_ceil(READERS).max(1)) {
            scope.spawn(|| part.iter().for_each(&each));
        }
    });
}

fn read_everywhere(world: &World, known: &Known) {
    for node in 0..world.clients.len() {
        let why = Why { at_rest: true, ..Why::default() };
        let shown = world.read_manifest(node, &known.repository, &known.image, why) == Brought::Right;
        world.read_parts(node, &known.repository, &known.image, shown, true);
    }
}

/// A blob that was deleted, in its repository.
fn look_for(world: &World, gone: &Gone) {
    for node in 0..world.clients.len() {
        let read = BlobRead { at_rest: true, ..BlobRead::whole(&gone.deleted.repository, &gone.blob) };
        world.read_blob(node, &read);
    }
}

/// Where all tags point in the end, at every node: the histories of the tags must explain it.
fn read_tags(world: &World) {
    let mut tags: Vec<(String, String)> = world.recorder.look(|h| {
        let real = h.tags.iter().filter(|t| !t.repository.contains('@'));
        real.map(|t| (t.repository.clone(), t.tag.clone())).collect()
    });
    tags.sort_unstable();
    tags.dedup();
    for (repository, tag) in tags {
        for client in &world.clients {
            read_tag(world, client, &repository, &tag);
        }
    }
}

fn read_tag(world: &World, client: &Client, repository: &str, tag: &str) {
    let start = world.recorder.now();
    let path = format!("/v2/{repository}/manifests/{tag}");
    let reply = client.call("HEAD", &path, &[("atoll-consistency", "linearizable")], b"");
    let answer = match reply.status() {
        200 => TagAnswer::Points { digest: reply.header("docker-content-digest").to_owned() },
        404 => TagAnswer::Absent,
        _ => TagAnswer::Unknown,
    };
    let span = Span { node: client.node, start, end: world.recorder.now() };
    world.tag_done(repository, tag, span, TagAction::Read, answer, None, Some(0));
}

fn look_into_stores(cluster: &Cluster, recorder: &Recorder) {
    let mut stores = Stores::default();
    let told = || (0..NODES).map(|node| cluster.desk.lag(node).map(|(_, regions)| regions).unwrap_or_default());
    let mut lag: Vec<_> = told().collect();
    // The push that showed that the cluster has healed is on its way to the other regions still.
    let until = Instant::now() + SETTLES_WITHIN;
    while lag.iter().flatten().any(|region| region.blobs != Some(0)) && Instant::now() < until {
        std::thread::sleep(LOOK_AGAIN);
        lag = told().collect();
    }
    let seen: Vec<_> = cluster.desk.nodes.iter().map(|node| stores.read(node)).collect();
    let (digests, broken) = seen.into_iter().map(|s| (s.digests, s.broken)).unzip();
    let temporary = cluster.desk.nodes.iter().map(temporary_files).collect();
    recorder.add(|h| h.at_rest = Some(StoresAtRest { digests, broken, lag, temporary }));
}

fn compare_states(cluster: &Cluster, recorder: &Recorder) {
    let check = match cluster.desk.ask(0, &["cluster", "check", "--deep"]) {
        Ok(answer) => {
            let nodes = answer["nodes"].as_array().into_iter().flatten();
            let hash = |n: &serde_json::Value| {
                let text = |field: &str| n[field].as_str().map(str::to_owned);
                (text("name").unwrap_or_default(), text("state_hash"))
            };
            HashCheck { nodes: nodes.map(hash).collect(), equal: answer["equal"] == true, failure: None }
        }
        Err(error) => HashCheck { nodes: Vec::new(), equal: false, failure: Some(format!("{error:#}")) },
    };
    recorder.add(|h| h.hashes.push(check));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spread_is_bounded_and_reaches_over_all() {
        let all: Vec<usize> = (0..100).collect();
        let of = |most| spread(&all, most).copied().collect::<Vec<_>>();
        assert_eq!(of(usize::MAX), all);
        assert_eq!(of(4), [0, 25, 50, 75]);
        assert!(of(30).len() <= 30 && of(30).last() > Some(&90));
        assert_eq!(of(0), [0], "at least one");
        assert_eq!(spread(&[0; 0], 5).count(), 0);
    }

    #[test]
    fn an_index_of_an_earlier_round_stands_with_its_children() {
        let image = |seed| Image::new(seed, vec![Blob::new(seed, 100)], None);
        let index = Image::index(3, vec![image(1), image(2)]);
        let known = Known { repository: "r".into(), tags: Vec::new(), image: index.clone(), revision: 7 };
        let pushes: Vec<Pushed> = Ledger::pushes(&known).collect();
        let manifests: Vec<&Pushed> = pushes.iter().filter(|p| p.what == What::Manifest).collect();
        assert_eq!(manifests.len(), 3);
        assert_eq!(manifests[2].digest, index.digest.to_string());
        assert_eq!(manifests[2].blobs, index.references());
        assert!(pushes.iter().all(|p| p.revision == Some(7)));
    }
}

//! What brings nodes to failpoints that clients' work alone does not.

use std::time::{Duration, Instant};

use super::{AT_WORK, Failpoints, LOOK_EVERY, VISIT_WAIT, armed_with};
use crate::cluster::spec::REGIONS;
use crate::cluster::{NODES, NotBack};
use crate::content::{Blob, Image, MANIFEST};
use crate::faults::Scene;
use crate::faults::behind::Progress;
use crate::faults::cut::cut_off;
use crate::faults::damage::flip_a_bit;
use crate::history::Outcome;
use crate::link::Condition;
use crate::stores::file_of;
use crate::wait::wait_for;

/// Something that is done to the cluster.
pub(super) struct Stimulus {
    /// Whether a failpoint of this name may be come by.
    pub(super) brings: fn(&str) -> bool,
    pub(super) go: fn(&mut Failpoints, &mut Scene<'_>) -> anyhow::Result<()>,
}

/// All, in the order in which they are tried.
pub(super) const ALL: [Stimulus; 8] = [
    Stimulus { brings: |name| name.starts_with("job."), go: many_tags },
    Stimulus { brings: |name| name.starts_with("copy.distrust"), go: bad_copy_for_a_client },
    Stimulus { brings: |name| name.starts_with("copy.drop"), go: bad_copy_for_a_peer },
    Stimulus { brings: |name| name.starts_with("state.clear"), go: interrupted_install },
    Stimulus { brings: |name| name.starts_with("snapshot.forget"), go: two_snapshots },
    Stimulus { brings: |name| name.starts_with("log.truncate"), go: deposed_leaders },
    Stimulus { brings: |_| true, go: cut_off_each },
    Stimulus { brings: |_| true, go: leave_each_behind },
];

/// Leaders that lose their place at most.
const LEADERS: usize = 20;
/// How long a node is cut off: entries that the others never get, uploads that are refused.
const CUT_MS: (u64, u64) = (3_500, 5_500);
/// More tags than one entry removes.
const TAGS: usize = 520;
/// Tags that one put may name.
const TAGS_AT_ONCE: usize = 50;
const SOON: Duration = Duration::from_secs(30);
const BLOB_BYTES: usize = 300_000;

/// The leader is cut off for no longer than the others take to have another one: what it has appended meanwhile is taken
/// back. After a longer cut the others' logs do not reach back that far, and it is sent a snapshot instead.
fn deposed_leaders(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for _ in 0..LEADERS {
        let leader = scene.leader();
        cut_off(scene, leader, Condition::cut());
        let deposed = persist(failpoints, scene, |scene| {
            let mut others = (0..NODES).filter(|node| *node != leader);
            others.any(|node| scene.cluster.desk.raft(node).is_some_and(|status| status.leads))
        });
        scene.cluster.links.heal();
        deposed?;
        failpoints.ready(scene.cluster, scene.random)?;
        if !failpoints.pending.iter().any(|trial| trial.name.starts_with("log.truncate")) {
            break;
        }
        failpoints.work(scene, AT_WORK)?;
    }
    Ok(())
}

/// The leader is cut off, and then one that follows.
fn cut_off_each(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for follows in [0, 1] {
        let node = (scene.leader() + follows) % NODES;
        cut_off(scene, node, Condition::cut());
        scene.last(CUT_MS.0, CUT_MS.1);
        scene.cluster.links.heal();
        failpoints.wait(scene, VISIT_WAIT)?;
    }
    Ok(())
}

/// A node needs a snapshot.
fn leave_each_behind(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for node in 0..NODES {
        if failpoints.pending.is_empty() {
            break;
        }
        leave_behind(failpoints, scene, node)?;
        failpoints.start(scene.cluster, node, scene.random)?;
        failpoints.wait(scene, VISIT_WAIT)?;
    }
    Ok(())
}

/// A node is killed while it switches to the state of a snapshot, and started again.
fn interrupted_install(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    dies_at(failpoints, scene, "state.switch.before")?;
    failpoints.wait(scene, VISIT_WAIT)
}

/// A node that has received a snapshot in part is sent another one.
fn two_snapshots(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = dies_at(failpoints, scene, "snapshot.arrive.before")?;
    leave_behind(failpoints, scene, node)?;
    failpoints.start(scene.cluster, node, scene.random)?;
    failpoints.wait(scene, VISIT_WAIT)
}

/// A node that is behind dies at a failpoint on its way to a snapshot, and is started with what the round tries.
fn dies_at(failpoints: &mut Failpoints, scene: &mut Scene<'_>, name: &str) -> anyhow::Result<usize> {
    let node = (scene.leader() + 1) % NODES;
    leave_behind(failpoints, scene, node)?;
    scene.cluster.start_node(node, &[armed_with(&format!("{name}=kill@1"))])?;
    let until = Instant::now() + SOON;
    while Instant::now() < until && !failpoints.revive(scene.cluster, scene.random)?.contains(&node) {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(node)
}

/// Kills a node and waits until the others' logs do not reach back to where it is. It does not run then.
fn leave_behind(failpoints: &mut Failpoints, scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
    failpoints.revive(scene.cluster, scene.random)?;
    scene.cluster.kill_if_it_runs(node)?;
    let mut progress = Progress::from(scene.world.revision());
    wait_for("the others move on", Progress::WAIT, || match failpoints.revive(scene.cluster, scene.random) {
        Ok(_) => progress.is_enough(scene.world.revision()).transpose(),
        Err(error) => Some(Err(error)),
    })?
}

/// A manifest with more tags than one entry removes is deleted: the rest is a job.
fn many_tags(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let image = Image::new(scene.world.seed(), Vec::new(), None);
    let (node, repository) = (scene.leader(), "stimuli/tags");
    for blob in &image.blobs {
        persist(failpoints, scene, |scene| scene.world.push_blob(node, repository, blob) == Outcome::Ok)?;
    }
    for first in (0..TAGS).step_by(TAGS_AT_ONCE) {
        let query: Vec<String> = (first..first + TAGS_AT_ONCE).map(|tag| format!("tag=t{tag}")).collect();
        let path = format!("/v2/{repository}/manifests/{}?{}", image.digest, query.join("&"));
        persist(failpoints, scene, |scene| {
            let client = scene.cluster.client(node);
            client.call("PUT", &path, &[("content-type", MANIFEST)], &image.manifest).status() == 201
        })?;
    }
    let path = format!("/v2/{repository}/manifests/{}", image.digest);
    persist(failpoints, scene, |scene| {
        matches!(scene.cluster.client(node).call("DELETE", &path, &[], b"").status(), 202 | 404)
    })?;
    failpoints.wait(scene, VISIT_WAIT)
}

/// A copy of which others have good ones is found to be bad by a client's pull.
fn bad_copy_for_a_client(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, repository, blob) = (scene.leader(), "stimuli/bad", Blob::new(scene.world.seed(), BLOB_BYTES));
    persist(failpoints, scene, |scene| {
        scene.cluster.client(node).push_blob(repository, &blob.content()).status() == 201
    })?;
    persist(failpoints, scene, |scene| (0..NODES).all(|other| holds(scene, other, &blob)))?;
    damage(scene, node, &blob)?;
    pulls_in_the_end(failpoints, scene, node, repository, &blob)
}

/// The only copy is found to be bad when another region asks for it; the blob is pushed again.
fn bad_copy_for_a_peer(failpoints: &mut Failpoints, scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, repository, blob) = (scene.leader(), "stimuli/last", Blob::new(scene.world.seed(), BLOB_BYTES));
    let others: Vec<usize> = (0..NODES).filter(|other| *other != node).collect();
    for other in &others {
        tell(failpoints, scene, node, &["replication", "pause", REGIONS[*other]])?;
    }
    persist(failpoints, scene, |scene| {
        scene.cluster.client(node).push_blob(repository, &blob.content()).status() == 201
    })?;
    damage(scene, node, &blob)?;
    // A direct read: it has to fail, and the source reports why.
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    let _ = scene.cluster.client(others[0]).get(&path, &[]);
    failpoints.wait(scene, VISIT_WAIT)?;
    for other in &others {
        tell(failpoints, scene, node, &["replication", "resume", REGIONS[*other]])?;
    }
    persist(failpoints, scene, |scene| {
        let again = scene.cluster.client(node).push_blob(repository, &blob.content()).status() == 201;
        again && scene.cluster.client(others[0]).get(&path, &[]).answer().is_some_and(|a| a.body == blob.content())
    })
}

fn pulls_in_the_end(
    failpoints: &mut Failpoints,
    scene: &mut Scene<'_>,
    node: usize,
    repository: &str,
    blob: &Blob,
) -> anyhow::Result<()> {
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    persist(failpoints, scene, |scene| {
        let answer = scene.cluster.client(node).get(&path, &[]).answer();
        answer.is_some_and(|answer| answer.status == 200 && answer.body == blob.content())
    })?;
    failpoints.wait(scene, VISIT_WAIT)
}

fn holds(scene: &Scene<'_>, node: usize, blob: &Blob) -> bool {
    file_of(&scene.cluster.desk.nodes[node], &blob.digest).is_some()
}

fn damage(scene: &mut Scene<'_>, node: usize, blob: &Blob) -> anyhow::Result<()> {
    let Some(file) = file_of(&scene.cluster.desk.nodes[node], &blob.digest) else {
        scene.found.push(("I1", format!("{} was acknowledged and is not in the store of node {node}", blob.digest)));
        return Err(NotBack("a blob is lost".to_owned()).into());
    };
    flip_a_bit(scene.random, &file, 0)
}

fn tell(failpoints: &mut Failpoints, scene: &mut Scene<'_>, node: usize, what: &[&str]) -> anyhow::Result<()> {
    persist(failpoints, scene, |scene| scene.cluster.desk.ask(node, what).is_ok())
}

/// Tries until it is done, while nodes die and come back.
fn persist(
    failpoints: &mut Failpoints,
    scene: &mut Scene<'_>,
    mut attempt: impl FnMut(&mut Scene<'_>) -> bool,
) -> anyhow::Result<()> {
    let mut failed = None;
    let done = wait_for("what was asked for is done", 2 * SOON, || {
        failed = failpoints.revive(scene.cluster, scene.random).err();
        (failed.is_some() || attempt(scene)).then_some(())
    });
    failed.map_or_else(|| done.map_err(|error| NotBack(format!("{error:#}")).into()), Err)
}

//! I7: what a node tells of the lag of regions is never below the truth, as of the revision that it has applied. The
//! truth is looked up blob by blob, in what is committed and in what the stores really hold.
//!
//! Of ages, virtual time makes three things exact: the oldest is at least as old as it was when the last change that the
//! node knows was made; it is no older than it is, while the leaders' clocks are right; and while it is the oldest, it
//! ages as fast as time passes.

use std::sync::Arc;

use atoll_metadata::read;
use atoll_registry::{MetadataGroupExt as _, Mode};
use atoll_replication::{LagReport, RegionLag, lag_report};
use atoll_types::{Digest, ObjectName, RegionId};

use crate::judge::Stopwatch;
use crate::log::{Lacking, Moment};
use crate::node::Node;
use crate::world::World;

/// What a node has told of the oldest blob that a region lacks.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    at_ms: u64,
    since: Moment,
    age_ms: u64,
}

/// Everything is replicated: every node knows that, and so it is.
pub(crate) async fn check(world: &Arc<World>) {
    for node in world.running() {
        look(world, &node).await;
        let at_rest = lag_report(&node.metadata, node.replication.clock());
        for lag in at_rest.iter().flat_map(|report| &report.regions) {
            if !lag.known || lag.blobs > 0 {
                world.judge.violated("I7", format!("at rest node {} says of {}: {lag:?}", node.index, lag.region));
            }
        }
    }
}

/// What a node tells now.
pub(crate) async fn look(world: &World, node: &Node) {
    let watch = Stopwatch::start();
    let Ok(report) = lag_report(&node.metadata, node.replication.clock()) else { return };
    let current = node.metadata.freshness();
    let cannot_know = current.mode == Mode::ReadOnly || current.staleness.is_none();
    for lag in &report.regions {
        let truth = world.log.truth(|truth| truth.lacking(&lag.region, report.revision.0));
        check_age(world, node, &report, lag, &truth);
        check_count(world, node, lag, &truth).await;
        if (lag.blobs > 0) != lag.oldest_age_ms.is_some() || (lag.blobs == 0 && lag.bytes > 0) {
            world.judge.violated("I7", format!("the lag of {} contradicts itself: {lag:?}", lag.region));
        }
        if lag.known && cannot_know {
            world.judge.violated("I7", format!("a node that cannot know calls the lag of {} known", lag.region));
        }
    }
    world.judge.looked("I7", watch);
}

async fn check_count(world: &World, node: &Node, lag: &RegionLag, truth: &Lacking) {
    let unheld = unheld(world, node, &lag.region).await;
    if lag.blobs < truth.blobs + unheld || lag.bytes < truth.bytes {
        let what = format!("node {} says {lag:?}, and it is {truth:?}; {unheld} copies are not there", node.index);
        world.judge.violated("I7", what);
    } else if !lag.at_most && (lag.blobs, lag.bytes) != (truth.blobs, truth.bytes) {
        let what = format!("node {} says {lag:?}, which is more than {truth:?}", node.index);
        world.judge.violated("I15", what);
    }
}

/// How many of the copies in a region that a node knows are not what its store really holds.
async fn unheld(world: &World, node: &Node, region: &RegionId) -> u64 {
    let copies = node.metadata.read(|kv| {
        let mut copies = Vec::<(Digest, ObjectName)>::new();
        for digest in world.content.digests() {
            let of_blob = read::blob(kv, digest)?.map(|blob| blob.copies).unwrap_or_default();
            copies.extend(of_blob.into_iter().filter(|(of, _)| of == region).map(|(_, object)| (*digest, object)));
        }
        Ok(copies)
    });
    let mut unheld = 0;
    for (digest, object) in copies.unwrap_or_default() {
        unheld += u64::from(!world.holds(region, &digest, &object).await);
    }
    unheld
}

fn check_age(world: &World, node: &Node, report: &LagReport, lag: &RegionLag, truth: &Lacking) {
    let now_ms = world.trace.now_ms();
    let known = world.log.truth(|truth| truth.moment(report.revision.0));
    let (Some(age_ms), Some(since), Some(known)) = (lag.oldest_age_ms, truth.oldest, known) else {
        node.lags.lock().remove(&lag.region);
        return;
    };
    let told = Told { at_ms: now_ms, since, age_ms };
    let before = node.lags.lock().insert(lag.region.clone(), told);
    // What is older than the oldest of then is not younger than it.
    let aged = before.filter(|before| since.revision <= before.since.revision);
    let aged_ms = aged.map_or(0, |before| before.age_ms + (now_ms - before.at_ms));
    let least_ms = aged_ms.max(known.stamp_ms - since.stamp_ms);
    let most_ms = if world.log.has_true_time() { now_ms - since.at_ms } else { u64::MAX };
    if !(least_ms..=most_ms).contains(&age_ms) {
        let what = format!(
            "node {} says that {} lacks something for {age_ms} ms, and it is {least_ms} to {most_ms}: since {since:?}",
            node.index, lag.region
        );
        world.judge.violated("I7", what);
    }
}

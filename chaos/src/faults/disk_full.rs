//! A disk that is full.

use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt as _;

use super::Scene;
use crate::cluster::{NotBack, READY_WAIT};
use crate::wait::wait_for;

/// What may be left: nothing, a little, or enough for the log but not for a blob.
const FREE_BYTES: [u64; 3] = [0, 100_000, 1_000_000];

/// So long it is ready, if it means to go on.
const STAYS: Duration = Duration::from_secs(1);

/// A node's disk is full for a while. The node may end; nobody may lose what was acknowledged.
pub(super) fn fill(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, free) = (scene.node(), FREE_BYTES[scene.random.random_range(0..FREE_BYTES.len())]);
    scene.cluster.disk(node).context("the run has no small disks")?.fill(free)?;
    scene.last(1_500, 5_000);
    scene.cluster.disk(node).context("the run has no small disks")?.empty()?;
    // A node that could not write its log ends, now or when it notices.
    let client = scene.cluster.client(node);
    let (mut ended, mut since) = (false, None);
    wait_for("a node whose disk was full decides", READY_WAIT, || {
        ended = scene.cluster.ended(node).is_some();
        since = client.ready().then(|| since.unwrap_or_else(Instant::now));
        (ended || since.is_some_and(|since: Instant| since.elapsed() > STAYS)).then_some(())
    })
    .map_err(|error| NotBack(format!("node {node}: {error:#}\n{}", scene.cluster.log_tail(node))))?;
    if ended {
        scene.cluster.start_node(node, &[])?;
    }
    scene.cluster.wait_node_ready(node)
}

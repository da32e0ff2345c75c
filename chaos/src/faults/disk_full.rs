//! A disk that is full.

use anyhow::Context;
use rand::RngExt as _;

use super::Scene;

/// What may be left: nothing, a little, or enough for the log but not for a blob.
const FREE_BYTES: [u64; 3] = [0, 100_000, 1_000_000];

/// A node's disk is full for a while. The node may end; nobody may lose what was acknowledged.
pub(super) fn fill(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, free) = (scene.node(), FREE_BYTES[scene.random.random_range(0..FREE_BYTES.len())]);
    scene.cluster.disk(node).context("the run has no small disks")?.fill(free)?;
    scene.last(1_500, 5_000);
    scene.cluster.disk(node).context("the run has no small disks")?.empty()?;
    if scene.cluster.ended(node).is_some() {
        scene.cluster.start_node(node, &[])?;
    }
    scene.cluster.wait_node_ready(node)
}

//! Connections between nodes that are reset in the midst of what they carry.

use std::time::Duration;

use rand::RngExt as _;

use super::Scene;
use crate::cluster::NODES;
use crate::wait::wait_for;

/// Resets of one fault.
const RESETS: usize = 4;
/// Enough for the heart of a small blob, or of a large one.
const BYTES_MAX: u64 = 400_000;
/// How long so much may take to pass.
const WAIT: Duration = Duration::from_secs(20);

pub(super) fn in_mid_stream(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for _ in 0..RESETS {
        let from = scene.node();
        let to = (from + scene.random.random_range(1..NODES)) % NODES;
        scene.touches([from, to]);
        let before = scene.cluster.links.bytes(from, to);
        scene.cluster.links.reset_after(from, to, scene.random.random_range(1..BYTES_MAX));
        wait_for("a link carries enough to be reset", WAIT, || {
            (!scene.cluster.links.is_armed(from, to)).then_some(())
        })?;
        anyhow::ensure!(scene.cluster.links.bytes(from, to) > before, "a reset before a byte passed");
    }
    // And all that two nodes have, whatever it carries.
    let a = scene.node();
    let b = (a + scene.random.random_range(1..NODES)) % NODES;
    scene.touches([a, b]);
    scene.cluster.links.reset(a, b);
    scene.cluster.links.heal();
    scene.cluster.wait_ready()
}

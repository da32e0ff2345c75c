//! Links that are long or slow.

use std::time::Duration;

use rand::RngExt as _;

use super::Scene;
use crate::cluster::NODES;
use crate::link::Condition;

/// Bits in a second of a slow link.
const RATES: [u64; 5] = [64_000, 256_000, 1_000_000, 3_000_000, 10_000_000];

/// All links are 20 to 300 ms long, there and back, with jitter.
pub(super) fn far(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.touches(0..NODES);
    for a in 0..NODES {
        for b in a + 1..NODES {
            let round_trip = Duration::from_millis(scene.random.random_range(20..=300));
            scene.cluster.links.set_both(a, b, Condition::far(round_trip, round_trip / 5));
        }
    }
    scene.last(4_000, 8_000);
    scene.cluster.links.heal();
    scene.cluster.wait_ready()
}

/// All links of a node are slow.
pub(super) fn slow(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, rate) = (scene.node(), RATES[scene.random.random_range(0..RATES.len())]);
    scene.touches(0..NODES);
    for other in (0..NODES).filter(|o| *o != node) {
        scene.cluster.links.set_both(node, other, Condition::slow(rate));
    }
    scene.last(4_000, 8_000);
    scene.cluster.links.heal();
    scene.cluster.wait_ready()
}

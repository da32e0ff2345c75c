//! SIGSTOP, and SIGCONT after a while.

use super::Scene;

pub(super) fn short(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    pause(scene, node, 1_000, 8_000)
}

pub(super) fn long(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    pause(scene, node, 20_000, 60_000)
}

pub(super) fn leader(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.leader();
    let election = scene.cluster.options.timing.election_max_ms;
    pause(scene, node, election + 500, 2 * election + 1_000)
}

fn pause(scene: &mut Scene<'_>, node: usize, from_ms: u64, to_ms: u64) -> anyhow::Result<()> {
    scene.touches([node]);
    scene.cluster.pause(node)?;
    scene.last(from_ms, to_ms);
    scene.cluster.resume(node)?;
    scene.cluster.wait_node_ready(node)?;
    // What is done right after is part of it: the node has yet to learn what it missed.
    scene.last(1_000, 2_000);
    Ok(())
}

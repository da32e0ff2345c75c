//! kill -9, and an end in good order.

use super::Scene;
use crate::cluster::NODES;

pub(super) fn one(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    kill(scene, node)
}

pub(super) fn leader(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.leader();
    kill(scene, node)
}

fn kill(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
    scene.touches([node]);
    scene.cluster.kill(node)?;
    scene.last(500, 4_000);
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

pub(super) fn all(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.touches(0..NODES);
    (0..NODES).try_for_each(|node| scene.cluster.kill(node))?;
    (0..NODES).try_for_each(|node| scene.cluster.start_node(node, &[]))?;
    scene.cluster.wait_ready()?;
    // What is done right after is part of it: nodes have yet to catch up with what they knew.
    scene.last(3_000, 5_000);
    Ok(())
}

pub(super) fn restart(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let status = scene.cluster.terminate(node)?;
    if !status.success() {
        scene.found.push(("I14", format!("node {node} was asked to end and did so with {status}")));
    }
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

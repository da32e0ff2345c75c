//! A loss of power: the file system forgets what was not synced.

use anyhow::Context;

use super::Scene;
use crate::cluster::NODES;

pub(super) fn one(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    lose(scene, node)?;
    scene.last(0, 1_500);
    restore(scene, node)?;
    scene.cluster.wait_node_ready(node)
}

pub(super) fn all(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    (0..NODES).try_for_each(|node| lose(scene, node))?;
    (0..NODES).try_for_each(|node| restore(scene, node))?;
    scene.cluster.wait_ready()
}

fn lose(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
    scene.cluster.disk(node).context("the run has no disks that lose power")?.cut_power()?;
    scene.cluster.kill(node)
}

fn restore(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
    scene.cluster.disk(node).context("the run has no disks that lose power")?.restore_power()?;
    scene.cluster.start_node(node, &[])
}

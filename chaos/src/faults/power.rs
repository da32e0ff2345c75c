//! A loss of power: the file system forgets what was not synced.

use super::Scene;
use crate::cluster::NODES;

pub(super) fn one(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    lose(scene, &[node])?;
    scene.last(0, 1_500);
    restore(scene, &[node])
}

pub(super) fn all(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let nodes: Vec<usize> = (0..NODES).collect();
    lose(scene, &nodes)?;
    restore(scene, &nodes)
}

/// All at once: what one of them still wrote, another one would bring back.
fn lose(scene: &mut Scene<'_>, nodes: &[usize]) -> anyhow::Result<()> {
    scene.touches(nodes.iter().copied());
    nodes.iter().for_each(|node| scene.cluster.desk.set_away(*node, true));
    scene.cluster.cut_power(nodes)?;
    nodes.iter().try_for_each(|node| scene.cluster.kill_if_it_runs(*node))
}

fn restore(scene: &mut Scene<'_>, nodes: &[usize]) -> anyhow::Result<()> {
    for node in nodes {
        scene.cluster.restore_power(*node)?;
        scene.cluster.start_node(*node, &[])?;
    }
    for node in nodes {
        scene.cluster.wait_node_ready(*node)?;
        scene.cluster.desk.set_away(*node, false);
    }
    // What is done right after is part of it.
    scene.last(2_000, 4_000);
    Ok(())
}

//! A node that was away for so long that it needs a snapshot.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rand::RngExt as _;

use super::Scene;
use super::damage::files_below;
use crate::cluster::{NODES, NotBack};
use crate::wait::wait_for;

/// More entries than the others keep for it.
const REVISIONS: u64 = 300;
/// How long clients may take to make them.
const WAIT: Duration = Duration::from_secs(90);

/// It comes back, dies in the midst of catching up more often than not, and comes back again.
pub(super) fn left(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.cluster.kill(node)?;
    wait_until_behind(scene)?;
    scene.cluster.start_node(node, &[])?;
    if scene.random.random_bool(0.7) {
        scene.last(20, 900);
        scene.cluster.kill(node)?;
        scene.cluster.start_node(node, &[])?;
    }
    scene.cluster.wait_node_ready(node)
}

/// What the others have to give it has flipped bits: it takes none of that, and waits for a snapshot that is whole.
pub(super) fn damaged(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.cluster.kill(node)?;
    wait_until_behind(scene)?;
    for other in (0..NODES).filter(|other| *other != node) {
        let folder = scene.cluster.desk.nodes[other].data().join("snapshots");
        for file in files_below(&folder).iter().filter(|f| f.extension().is_some_and(|e| e == "sst")) {
            flip_a_bit_of_a_copy(scene, file)?;
        }
    }
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

/// The file shares its bytes with the sender's own state, which stays whole: a damaged copy takes its place.
fn flip_a_bit_of_a_copy(scene: &mut Scene<'_>, file: &Path) -> anyhow::Result<()> {
    // A newer snapshot may have taken the place of this one just now.
    let Ok(mut bytes) = std::fs::read(file) else { return Ok(()) };
    if bytes.is_empty() {
        return Ok(());
    }
    let at = scene.random.random_range(0..bytes.len());
    bytes[at] ^= 1 << scene.random.random_range(0..8);
    let copy = scene.cluster.desk.nodes[0].folder.join("damaged");
    std::fs::write(&copy, bytes).context("cannot write a damaged file")?;
    match std::fs::rename(&copy, file) {
        Err(error) if file.exists() => Err(error).context("cannot put a damaged file in place"),
        _ => Ok(()),
    }
}

/// Waits until the others have moved on so far that their logs do not reach back.
fn wait_until_behind(scene: &Scene<'_>) -> anyhow::Result<()> {
    let from = scene.world.revision();
    wait_for("the others move on", WAIT, || (scene.world.revision() >= from + REVISIONS).then_some(()))
        .map_err(|error| NotBack(format!("{error:#}")).into())
}

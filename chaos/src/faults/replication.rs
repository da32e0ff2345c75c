//! Replication that an operator pauses: lag grows, and everybody can tell how far.

use super::Scene;
use crate::cluster::NotBack;
use crate::cluster::spec::REGIONS;

pub(super) fn pause(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (asked, paused) = (scene.node(), scene.node());
    let region = REGIONS[paused];
    scene.touches([paused]);
    tell(scene, asked, "pause", region)?;
    scene.last(6_000, 9_000);
    tell(scene, asked, "resume", region)?;
    scene.cluster.wait_ready()
}

/// Nothing is faulty: a node that refuses this is.
pub(super) fn tell(scene: &Scene<'_>, asked: usize, what: &str, region: &str) -> anyhow::Result<()> {
    let told = scene.cluster.desk.ask(asked, &["replication", what, region]);
    told.map(drop).map_err(|error| NotBack(format!("{error:#}")).into())
}

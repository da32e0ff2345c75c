//! Replication that an operator pauses: lag grows, and everybody can tell how far.

use super::Scene;
use crate::cluster::spec::REGIONS;

pub(super) fn pause(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (asked, region) = (scene.node(), REGIONS[scene.node()]);
    scene.cluster.desk.ask(asked, &["replication", "pause", region])?;
    scene.last(6_000, 9_000);
    scene.cluster.desk.ask(asked, &["replication", "resume", region])?;
    scene.cluster.wait_ready()
}

//! A node that was away for so long that it needs a snapshot.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt as _;

use super::Scene;
use super::damage::files_below;
use crate::cluster::{NODES, NotBack};
use crate::wait::wait_for;

/// More entries than the others keep for it.
const REVISIONS: u64 = 300;
const FIRST_ROWS_BYTES: usize = 48;
/// Folders of snapshots in the making begin so.
const MAKING: &str = "making-";
/// How long every new snapshot of the others is damaged, and how often they are looked for.
const DAMAGES: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// With two of three nodes, and clients at work.
const STANDS_STILL: Duration = Duration::from_secs(45);

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

/// What the others have to give it has flipped bits, and so has what they make meanwhile: it takes none of that, and waits
/// for a snapshot that is whole.
pub(super) fn damaged(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.cluster.kill(node)?;
    wait_until_behind(scene)?;
    let (mut seen, mut until) = (BTreeSet::new(), None);
    while until.is_none_or(|until| Instant::now() < until) {
        for other in (0..NODES).filter(|other| *other != node) {
            let folder = scene.cluster.desk.nodes[other].data().join("snapshots");
            for file in files_below(&folder).iter().filter(|file| is_sent(file)) {
                if seen.insert(file.clone()) {
                    flip_a_bit_of_a_copy(scene, file)?;
                }
            }
        }
        if until.is_none() {
            scene.cluster.start_node(node, &[])?;
            until = Some(Instant::now() + DAMAGES);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    scene.cluster.wait_node_ready(node)
}

/// A file of a snapshot that is whole: one in the making is its own node's.
fn is_sent(file: &Path) -> bool {
    let is_made = !file.components().any(|c| c.as_os_str().to_string_lossy().starts_with(MAKING));
    is_made && file.extension().is_some_and(|e| e == "sst")
}

/// The file shares its bytes with the sender's own state, which stays whole: a damaged copy takes its place.
fn flip_a_bit_of_a_copy(scene: &mut Scene<'_>, file: &Path) -> anyhow::Result<()> {
    // A newer snapshot may have taken the place of this one just now.
    let Ok(mut bytes) = std::fs::read(file) else { return Ok(()) };
    if bytes.is_empty() {
        return Ok(());
    }
    // Its first rows: damage to what it is opened by would be noticed by opening it.
    let at = scene.random.random_range(0..bytes.len().min(FIRST_ROWS_BYTES));
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
    let mut progress = Progress::from(scene.world.revision());
    wait_for("the others move on", Progress::WAIT, || progress.is_enough(scene.world.revision()).transpose())?
}

/// How far a cluster gets while one of its nodes is away. That it is slow is no fault of it; that it stands still is.
pub(crate) struct Progress {
    from: u64,
    seen: u64,
    at: Instant,
}

impl Progress {
    /// How long all of it may take.
    pub(crate) const WAIT: Duration = Duration::from_secs(300);

    pub(crate) fn from(revision: u64) -> Self {
        Self { from: revision, seen: revision, at: Instant::now() }
    }

    /// Whether it has got far enough at a revision; an error once it stands still.
    pub(crate) fn is_enough(&mut self, revision: u64) -> anyhow::Result<Option<()>> {
        if revision > self.seen {
            (self.seen, self.at) = (revision, Instant::now());
        }
        if self.at.elapsed() > STANDS_STILL {
            let told = format!("no write was acknowledged for {STANDS_STILL:?}, at revision {revision}");
            return Err(NotBack(told).into());
        }
        Ok((revision >= self.from + REVISIONS).then_some(()))
    }
}

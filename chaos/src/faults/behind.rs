//! A node that was away for so long that it needs a snapshot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::damage::files_below;
use super::words::Words;
use super::{Fault, Scene};
use crate::cluster::spec::NodeSpec;
use crate::cluster::{NODES, NotBack};
use crate::wait::wait_for;

/// More entries than the others keep for it.
const REVISIONS: u64 = 300;
/// What is damaged of a snapshot: the first rows of each sorted file, which only their checksums tell; or of one file a bit
/// anywhere, a sorted file or another one, or its end.
pub(super) const DAMAGES: [&str; 4] = [ROWS, "sst", "other", CUT];
const ROWS: &str = "rows";
const CUT: &str = "cut";
const ROWS_BYTES: usize = 48;
/// Folders of snapshots in the making, and of those that arrive, begin so: they are their own node's.
const UNFINISHED: [&str; 2] = ["making-", "arriving-"];
/// What the sender says when it was noticed: at the other end, or by itself.
const NOTICED: [&str; 2] = ["did not verify at the peer", "is damaged on its disk"];
/// How long every new snapshot of the others is damaged, and how often they are looked for.
const DAMAGED_FOR: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// With two of three nodes, and clients at work.
const STANDS_STILL: Duration = Duration::from_secs(45);

/// It comes back, dies in the midst of catching up more often than not, and comes back again.
pub(super) fn left(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
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

/// What the others have to give it is damaged, and so is what they make meanwhile: it takes none of that, and waits for a
/// snapshot that is whole.
pub(super) fn damaged(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    scene.cluster.kill(node)?;
    wait_until_behind(scene)?;
    let others: Vec<usize> = (0..NODES).filter(|other| *other != node).collect();
    let mut words: Vec<Words> = others.iter().map(|other| Words::from_now(scene, *other)).collect();
    let rows = scene.due(Fault::DamagedSnapshot, &DAMAGES)? == ROWS;
    let (mut seen, mut until) = (BTreeSet::new(), None);
    while until.is_none_or(|until| Instant::now() < until) {
        for snapshot in others.iter().flat_map(|other| snapshots(&scene.cluster.desk.nodes[*other])).collect::<Vec<_>>()
        {
            if seen.insert(snapshot.clone()) {
                damage(scene, &snapshot, rows)?;
            }
        }
        if until.is_none() {
            scene.cluster.start_node(node, &[])?;
            until = Some(Instant::now() + DAMAGED_FOR);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    scene.cluster.wait_node_ready(node)?;
    let said: Vec<String> = words.iter_mut().map(Words::fresh).collect();
    if !NOTICED.iter().any(|words| said.iter().any(|said| said.contains(words))) {
        scene.missed(format!("none of {} damaged snapshots was sent and refused", seen.len()));
    }
    Ok(())
}

/// The folders of files of the snapshots that a node may send.
fn snapshots(node: &NodeSpec) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(node.data().join("snapshots")).into_iter().flatten().flatten();
    let whole = folders.filter(|f| !UNFINISHED.iter().any(|begin| f.file_name().to_string_lossy().starts_with(begin)));
    whole.map(|folder| folder.path().join("db")).collect()
}

/// Damages a snapshot: one that is made just now may replace it at any time.
fn damage(scene: &mut Scene<'_>, snapshot: &Path, rows: bool) -> anyhow::Result<()> {
    let mut files = files_below(snapshot);
    files.retain(|file| file.metadata().is_ok_and(|meta| meta.len() > 0));
    if rows {
        files.retain(|file| is_sorted(file));
        let mut any = false;
        for file in files {
            any |= replace(scene, &file, |random, bytes| flip(random, bytes, ROWS_BYTES))?;
        }
        // Once in a firing: the other kinds are of one file in each snapshot.
        if any && !scene.now.kinds.contains(&ROWS) {
            scene.met(ROWS);
        }
        return Ok(());
    }
    let kind = scene.due(Fault::DamagedSnapshot, &DAMAGES[1..])?;
    files.retain(|file| kind == CUT || is_sorted(file) == (kind == "sst"));
    if files.is_empty() {
        return Ok(());
    }
    let file = files.swap_remove(scene.random.random_range(0..files.len()));
    let change = |random: &mut StdRng, bytes: &mut Vec<u8>| match kind {
        CUT => bytes.truncate(random.random_range(0..bytes.len())),
        _ => flip(random, bytes, usize::MAX),
    };
    if replace(scene, &file, change)? {
        scene.met(kind);
    }
    Ok(())
}

fn is_sorted(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "sst")
}

/// Flips a bit of the first so many bytes.
fn flip(random: &mut StdRng, bytes: &mut [u8], among: usize) {
    let at = random.random_range(0..bytes.len().min(among));
    bytes[at] ^= 1 << random.random_range(0..8);
}

/// A changed copy takes the place of a file, which may share its bytes with the sender's own state: that stays whole.
/// False when the file has gone meanwhile.
fn replace(scene: &mut Scene<'_>, file: &Path, change: impl Fn(&mut StdRng, &mut Vec<u8>)) -> anyhow::Result<bool> {
    // A newer snapshot may have taken the place of this one just now.
    let Some(mut bytes) = std::fs::read(file).ok().filter(|bytes| !bytes.is_empty()) else { return Ok(false) };
    change(scene.random, &mut bytes);
    let copy = scene.cluster.desk.nodes[0].folder.join("damaged");
    std::fs::write(&copy, bytes).context("cannot write a damaged file")?;
    match std::fs::rename(&copy, file) {
        Err(error) if file.exists() => Err(error).context("cannot put a damaged file in place"),
        renamed => Ok(renamed.is_ok()),
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn one_bit_is_flipped_where_it_may_be() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..50 {
            let mut bytes = vec![0_u8; 100];
            flip(&mut random, &mut bytes, ROWS_BYTES);
            assert_eq!(bytes.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
            assert!(bytes[ROWS_BYTES..].iter().all(|b| *b == 0));
        }
        let mut short = vec![0_u8];
        flip(&mut random, &mut short, usize::MAX);
        assert_eq!(short[0].count_ones(), 1);
    }
}

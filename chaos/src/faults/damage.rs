//! Files of a stopped node that come back other than they were written.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::cut::cut_off;
use super::{Fault, Scene};
use crate::cluster::{NotBack, READY_WAIT};
use crate::link::Condition;
use crate::stores::Stores;
use crate::wait::wait_for;

/// Files of a database: the write-ahead log, which a start reads whole, and sorted files, which are read in parts.
pub(super) const FILES: [&str; 2] = [WAL, "sst"];
const WAL: &str = "wal";
/// Attempts to stop a node while it has such a file.
const STOPS: usize = 3;
/// How long a node may take to look through its files, or to refuse them.
const DECIDES_WAIT: Duration = Duration::from_secs(60);
/// What a node says that has nothing to compare its state with; its own it has looked through before.
const ALONE: &str = "cannot be compared";
/// Behind the first bytes of a pull, so that it has begun when it comes to what is damaged.
const LATE_BYTES: u64 = 256 << 10;
/// Share of smaller blobs that is damaged: one of so many.
const ONE_OF: usize = 3;
const BLOCK_BYTES: u64 = 64 << 10;

/// Some blobs of a stopped node, of which every other node has a copy: it serves none of them wrong, and gets them from
/// its peers again.
pub(super) fn blobs(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.world.recorder.add(|h| h.damaged = true);
    let node = scene.node();
    scene.touches([node]);
    scene.cluster.kill(node)?;
    let spare = Stores::default().spare(&scene.cluster.desk.nodes, node);
    for file in &spare {
        let is_large = file.metadata().is_ok_and(|m| m.len() > LATE_BYTES + BLOCK_BYTES);
        if is_large {
            flip_a_bit(scene.random, file, LATE_BYTES)?;
        } else if scene.random.random_range(0..ONE_OF) == 0 {
            damage(scene.random, file)?;
        }
    }
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)?;
    // Clients pull what is damaged.
    scene.last(3_000, 5_000);
    Ok(())
}

/// A file of the log.
pub(super) fn log(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    database(scene, Fault::DamagedLog, "log")
}

/// A file of the state.
pub(super) fn state(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    database(scene, Fault::DamagedState, "state")
}

/// The node notices, at its start or when it is asked to read all of its state; or it goes on right. Until then it is cut
/// off, so that it takes part in nothing: one that has noticed gets its own files back, as they were when it stopped.
fn database(scene: &mut Scene<'_>, fault: Fault, part: &str) -> anyhow::Result<()> {
    let (node, kind) = (scene.node(), scene.due(fault, &FILES)?);
    scene.touches([node]);
    scene.cluster.kill(node)?;
    let (data, aside) = (scene.cluster.desk.nodes[node].data(), scene.cluster.desk.nodes[node].folder.join("aside"));
    let file = file_of_kind(scene, node, &data.join(part), kind)?;
    copy(&data, &aside)?;
    damage(scene.random, &file)?;
    cut_off(scene, node, Condition::cut());
    scene.cluster.start_damaged(node)?;
    let sound = is_sound(scene, node).map_err(|error| NotBack(format!("damaged: {}: {error:#}", file.display())))?;
    // Of a sorted file nobody has read all: indexes and filters are read when they are needed.
    if sound && kind == WAL {
        std::fs::remove_dir_all(&aside).context("cannot remove a copy")?;
    } else {
        scene.cluster.desk.set_away(node, true);
        scene.cluster.kill_if_it_runs(node)?;
        std::fs::remove_dir_all(&data).context("cannot take damaged files away")?;
        std::fs::rename(&aside, &data).context("cannot put files back")?;
        // Alone it may have come to later terms, of which they know nothing.
        scene.cluster.start_damaged(node)?;
    }
    scene.cluster.links.heal();
    scene
        .cluster
        .wait_node_ready(node)
        .map_err(|error| NotBack(format!("damaged: {}, found sound: {sound}: {error:#}", file.display())))?;
    scene.cluster.desk.set_away(node, false);
    scene.met(kind);
    Ok(())
}

/// A file of a kind that a node has, which does not run. It is started until it has one: a start makes sorted files of
/// what the write-ahead log has, and begins a new one, which clients fill.
fn file_of_kind(scene: &mut Scene<'_>, node: usize, folder: &Path, kind: &str) -> anyhow::Result<PathBuf> {
    for _ in 0..STOPS {
        let mut files = files_of_kind(folder, kind);
        if !files.is_empty() {
            return Ok(files.swap_remove(scene.random.random_range(0..files.len())));
        }
        scene.cluster.start_node(node, &[])?;
        scene.cluster.wait_node_ready(node)?;
        wait_for("a database has such files", READY_WAIT, || (!files_of_kind(folder, kind).is_empty()).then_some(()))
            .with_context(|| format!("{kind} in {}", folder.display()))?;
        scene.cluster.kill(node)?;
    }
    bail!("{} has no {kind} that could be damaged", folder.display())
}

fn files_of_kind(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let end = if kind == WAL { "log" } else { kind };
    let mut files = files_below(folder);
    files.retain(|f| f.extension().is_some_and(|e| e == end) && f.metadata().is_ok_and(|meta| meta.len() > 0));
    files
}

/// Whether a node runs and finds nothing wrong with what it has.
fn is_sound(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<bool> {
    let name = scene.cluster.desk.nodes[node].name.clone();
    let decided = wait_for("a node with damaged files decides", DECIDES_WAIT, || {
        if scene.cluster.ended(node).is_some() {
            return Some(false);
        }
        let said = scene.cluster.desk.try_ask(node, &["cluster", "check", "--deep"]).ok()?;
        let why = String::from_utf8_lossy(&said.stderr);
        if said.status.success() || why.contains(ALONE) {
            return Some(true);
        }
        (why.contains(&format!("the state of {name} at")) || why.contains(&format!("{name} could not be checked")))
            .then_some(false)
    });
    let sound = decided.with_context(|| scene.cluster.log_tail(node))?;
    Ok(sound && scene.cluster.is_alive(node))
}

/// Flips a bit behind so many bytes.
pub(crate) fn flip_a_bit(random: &mut StdRng, path: &Path, from: u64) -> anyhow::Result<()> {
    let file =
        File::options().read(true).write(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata().context("a file has no length")?.len();
    anyhow::ensure!(from < length, "{} is too short to be damaged behind {from} bytes", path.display());
    flip(random, &file, from..length)
}

fn flip(random: &mut StdRng, file: &File, within: Range<u64>) -> anyhow::Result<()> {
    let (at, mut byte) = (random.random_range(within), [0]);
    file.read_exact_at(&mut byte, at).context("cannot read a file")?;
    byte[0] ^= 1 << random.random_range(0..8);
    file.write_all_at(&byte, at).context("cannot write a file")
}

/// Flips some bits, or cuts the end off.
fn damage(random: &mut StdRng, path: &Path) -> anyhow::Result<()> {
    let file =
        File::options().read(true).write(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata().context("a file has no length")?.len();
    if length == 0 {
        return Ok(());
    }
    if random.random_range(0..4) == 0 {
        return file.set_len(random.random_range(0..length)).context("cannot cut a file");
    }
    for _ in 0..random.random_range(1..=8) {
        flip(random, &file, 0..length)?;
    }
    Ok(())
}

pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort_unstable();
    found
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_damaged_file_is_another_one_and_a_copy_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copied) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir_all(original.join("deep")).unwrap();
        let file = original.join("deep/x.sst");
        std::fs::write(&file, vec![7; 1000]).unwrap();
        copy(&original, &copied).unwrap();
        for seed in 0..20 {
            std::fs::write(&file, vec![7; 1000]).unwrap();
            damage(&mut StdRng::seed_from_u64(seed), &file).unwrap();
            let now = std::fs::read(&file).unwrap();
            assert!(now.len() < 1000 || now.iter().filter(|b| **b != 7).count() <= 8);
        }
        assert_eq!(std::fs::read(copied.join("deep/x.sst")).unwrap(), vec![7; 1000]);
        assert_eq!(files_below(&original), [file]);
    }

    #[test]
    fn files_of_a_database_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, content) in [("4.log", "x"), ("5.log", ""), ("6.sst", "y"), ("CURRENT", "z")] {
            std::fs::write(at(name), content).unwrap();
        }
        assert_eq!(files_of_kind(folder.path(), WAL), [at("4.log")]);
        assert_eq!(files_of_kind(folder.path(), "sst"), [at("6.sst")]);
    }
}

//! Files of a stopped node that come back other than they were written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Scene;
use crate::stores::objects;
use crate::wait::wait_for;

/// How long a node may take to be ready, or to refuse its files.
const DECIDES_WAIT: Duration = Duration::from_secs(40);
/// Share of blobs that is damaged: one of so many.
const ONE_OF: usize = 3;

/// Some blobs of a stopped node: it serves none of them wrong, and gets them from its peers again.
pub(super) fn blobs(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    scene.world.recorder.add(|h| h.damaged = true);
    let node = scene.node();
    scene.cluster.kill(node)?;
    let mut files = objects(&scene.cluster.desk.nodes[node]);
    files.sort_unstable();
    for file in files.iter().filter(|_| scene.random.random_range(0..ONE_OF) == 0).collect::<Vec<_>>() {
        damage(scene.random, file)?;
    }
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

/// A file of the log.
pub(super) fn log(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    database(scene, "log")
}

/// A file of the state.
pub(super) fn state(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    database(scene, "state")
}

/// The node notices and refuses to start, or it goes on right. In either case its own files are put back before it
/// goes on: as they were when it stopped, so that it has forgotten nothing.
fn database(scene: &mut Scene<'_>, part: &str) -> anyhow::Result<()> {
    let node = scene.node();
    scene.cluster.kill(node)?;
    let (data, aside) = (scene.cluster.desk.nodes[node].data(), scene.cluster.desk.nodes[node].folder.join("aside"));
    copy(&data, &aside)?;
    let files = files_below(&data.join(part));
    let large: Vec<&PathBuf> = files.iter().filter(|f| is_data(f)).collect();
    if large.is_empty() {
        bail!("{} has no files that could be damaged", data.join(part).display());
    }
    let file = large[scene.random.random_range(0..large.len())];
    damage(scene.random, file)?;
    scene.cluster.start_node(node, &[])?;
    let client = scene.cluster.client(node);
    wait_for("a node with damaged files decides", DECIDES_WAIT, || {
        (scene.cluster.ended(node).is_some() || client.ready()).then_some(())
    })
    .with_context(|| format!("damaged: {}\n{}", file.display(), scene.cluster.log_tail(node)))?;
    scene.last(300, 1_000);
    scene.cluster.kill(node)?;
    std::fs::remove_dir_all(&data).context("cannot take damaged files away")?;
    std::fs::rename(&aside, &data).context("cannot put files back")?;
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

fn is_data(file: &Path) -> bool {
    let known = file.extension().is_some_and(|e| e == "sst" || e == "log");
    known && file.metadata().is_ok_and(|m| m.len() > 0)
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
        let (at, mut byte) = (random.random_range(0..length), [0]);
        file.read_exact_at(&mut byte, at).context("cannot read a file")?;
        byte[0] ^= 1 << random.random_range(0..8);
        file.write_all_at(&byte, at).context("cannot write a file")?;
    }
    Ok(())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
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
}

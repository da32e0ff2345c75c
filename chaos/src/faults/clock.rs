//! A wall clock that jumps, by `libfaketime`, which reads the offset of each node from a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rand::RngExt as _;

use super::Scene;

const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];
const JUMP_S_MAX: i64 = 3_600;

/// What every node is started with, so that its clock can jump later. The folder holds the offsets.
pub(crate) fn environment(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let Some(library) = LIBRARIES.into_iter().find(|l| Path::new(l).is_file()) else {
        bail!("libfaketime is missing; install it: sudo apt-get install faketime");
    };
    let offsets = folder.join("{node}.clock").display().to_string();
    let pairs = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", &offsets),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("ATOLL_CHAOS_CLOCKS", &folder.display().to_string()),
    ];
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

/// A node's clock is off from now on by up to an hour, and right again after a while.
pub(super) fn jump(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    let file = offset_file(scene, node)?;
    let seconds = scene.random.random_range(-JUMP_S_MAX..=JUMP_S_MAX);
    std::fs::write(&file, format!("{seconds:+}\n")).context("cannot set a clock")?;
    scene.last(2_500, 5_000);
    std::fs::write(&file, "+0\n").context("cannot set a clock")?;
    scene.last(1_100, 1_500);
    scene.cluster.wait_ready()
}

fn offset_file(scene: &Scene<'_>, node: usize) -> anyhow::Result<PathBuf> {
    let variables = &scene.cluster.options.environment;
    let folder = variables.iter().find(|(name, _)| name == "ATOLL_CHAOS_CLOCKS").context("the run has no clocks")?;
    Ok(Path::new(&folder.1).join(format!("{}.clock", scene.cluster.desk.nodes[node].name)))
}

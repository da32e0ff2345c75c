//! A wall clock that jumps: a library of our own is preloaded into each node and adds what the node's file says.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rand::RngExt as _;

use super::Scene;
use super::words::Words;
use crate::wait::wait_for;

const SOURCE: &str = include_str!("clock.c");
/// Tells the library which file to read.
const OFFSETS: &str = "ATOLL_CHAOS_CLOCK";
const JUMP_S_MAX: i64 = 3_600;
/// Far enough to be told from a line that was written a while ago.
const JUMP_S_MIN: i64 = 120;
/// By so much a clock may seem to be off that is right, on a busy machine.
const SLACK_S: i64 = 30;
/// How long a node may take to see another time, and to say so.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// What every node is started with, so that its clock can jump later. The folder holds the offsets.
pub(crate) fn environment(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let library = build(folder)?;
    let pairs = [("LD_PRELOAD", library), (OFFSETS, folder.join("{node}.clock"))];
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.display().to_string())).into())
}

/// Builds the library.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE).context("cannot write the clock's source")?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
    let built = compiler.output().context("cannot run cc; install a C compiler: sudo apt-get install gcc")?;
    if !built.status.success() {
        bail!("cc cannot build the clock: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(library)
}

/// A node's clock is off from now on by up to an hour, and right again after a while.
pub(super) fn jump(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let file = offset_file(scene, node)?;
    let far = scene.random.random_range(JUMP_S_MIN..=JUMP_S_MAX);
    let seconds = if scene.random.random_bool(0.5) { far } else { -far };
    set(&file, seconds)?;
    if let Err(error) = wait_until_off(scene, node, seconds) {
        scene.missed(format!("node {node}: {error:#}"));
    }
    scene.last(2_500, 5_000);
    set(&file, 0)?;
    wait_until_off(scene, node, 0).context("a clock stays off")?;
    scene.cluster.wait_ready()
}

/// Sets what a node's clock is off by. The node has the file mapped.
fn set(file: &Path, seconds: i64) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(file);
    opened.and_then(|file| file.write_all_at(&seconds.to_ne_bytes(), 0)).context("cannot set a clock")
}

/// Waits until the times of the lines that a node writes are off by so many seconds. (The `Date` of its answers is no
/// witness: hyper keeps the last one while the time is before it.)
fn wait_until_off(scene: &Scene<'_>, node: usize, seconds: i64) -> anyhow::Result<()> {
    let (mut words, client) = (Words::from_now(scene, node), scene.cluster.client(node));
    let mut off = None;
    wait_for("a node's clock is off", SEEN_WITHIN, || {
        // A request is a line.
        client.get("/v2/clock/none/tags/list", &[]);
        let written = words.fresh().lines().filter_map(written_at).next_back();
        off = written.map(|at| at - now()).or(off);
        off.is_some_and(|off| (off - seconds).abs() <= SLACK_S).then_some(())
    })
    .with_context(|| format!("it should be off by {seconds} s, and is by {off:?}"))
}

/// The seconds since the epoch.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// When a line says that it was written, such as `2026-11-27T07:25:28.968346Z  INFO …`.
fn written_at(line: &str) -> Option<i64> {
    let (date, time) = line.split_once('.')?.0.split_once('T')?;
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    Some(((days(date) * 24 + time[0]) * 60 + time[1]) * 60 + time[2])
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let numbers: Option<Vec<i64>> = text.split(between).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Days from the epoch to a date; a year begins in March here, so that a leap day is its last.
fn days([year, month, day]: [i64; 3]) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469
}

fn offset_file(scene: &Scene<'_>, node: usize) -> anyhow::Result<PathBuf> {
    let variables = &scene.cluster.options.environment;
    let (_, files) = variables.iter().find(|(name, _)| name == OFFSETS).context("the run has no clocks")?;
    Ok(scene.cluster.desk.nodes[node].fill_in(files).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_when_it_was_written() {
        assert_eq!(written_at("1970-01-01T00:00:01.5Z  INFO x"), Some(1));
        assert_eq!(written_at("2026-11-27T07:25:28.968346Z  INFO atoll_http::stack: request"), Some(1_795_764_328));
        assert_eq!(written_at("2024-02-29T23:59:59.0Z").map(|at| at + 1), written_at("2024-03-01T00:00:00.0Z"));
        for other in ["", "failpoint object.sync.before: visit 1 fails", "atoll: x.y", "2026-11T07:25:28.9Z"] {
            assert_eq!(written_at(other), None, "{other}");
        }
    }
}

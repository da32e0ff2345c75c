//! `cargo xtask chaos`: builds `atoll` as the tests use it and the chaos program, and runs that.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::{prerequisites, workspace};

/// As `dev` builds, so that nothing is built twice.
const BUILD: [&str; 11] = [
    "build",
    "--quiet",
    "--workspace",
    "--locked",
    "--bin",
    "atoll",
    "--bin",
    "atoll-chaos",
    "--bin",
    "atoll-sim",
    "--test",
];
/// The same selection as `dev`'s, for the same features.
const TESTS: &str = "process";
/// `atoll` with planted bugs, in a folder of its own: its features are others.
const BUILD_PLANTED: [&str; 9] =
    ["build", "--quiet", "--locked", "--package", "atoll", "--features", "planted", "--target-dir", "target/planted"];
/// Runs that start no node.
const WITHOUT_NODES: [&str; 3] = ["list", "--help", "-h"];

/// Installs, builds, and becomes the chaos program.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    prerequisites::ensure(prerequisites::CHAOS)?;
    let named = |name: &str| arguments.first().is_some_and(|a| a == name);
    if WITHOUT_NODES.iter().any(|run| named(run)) {
        workspace::succeed(&mut workspace::cargo(["build", "--quiet", "--locked", "--package", "atoll-chaos"]))?;
    } else {
        workspace::succeed(workspace::cargo(BUILD).arg(TESTS))?;
    }
    if named("planted") {
        workspace::succeed(&mut workspace::cargo(BUILD_PLANTED))?;
    }
    let binaries = workspace::binaries()?;
    become_chaos(&binaries, arguments)
}

/// The process stays the same, so that its nodes end with whoever started it.
fn become_chaos(binaries: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    let root = workspace::root();
    let mut command = Command::new(binaries.join("atoll-chaos"));
    command.args(arguments);
    for (flag, value) in [
        ("--atoll", binaries.join("atoll")),
        ("--planted-atoll", root.join("target/planted/debug/atoll")),
        ("--sources", root.to_owned()),
        ("--evidence", root.join("target/chaos")),
    ] {
        if !arguments.iter().any(|a| a.as_os_str() == OsStr::new(flag)) {
            command.arg(flag).arg(value);
        }
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", binaries.join("atoll-chaos").display()))
}

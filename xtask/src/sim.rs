//! `cargo xtask sim`: builds the simulation and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

use crate::{prerequisites, workspace};

/// As the workspace's tests build it, so that neither builds anything that the other has built.
const BUILD: [&str; 8] = ["build", "--quiet", "--workspace", "--locked", "--bin", "atoll-sim", "--test", "smoke"];

/// Runs seeds; the exit code is the simulation's: 1 for a violation, 3 when a fault never fired.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    prerequisites::ensure(prerequisites::BUILD)?;
    workspace::succeed(&mut workspace::cargo(BUILD))?;
    let binary = workspace::binaries()?.join("atoll-sim");
    let error = Command::new(&binary).arg("run").args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}

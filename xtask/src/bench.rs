//! `cargo xtask bench`: what it measures with, the release build that it measures, and then the bench itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

use crate::{prerequisites, tools, workspace};

/// Not the whole workspace: what other packages ask of dependencies, checks and a clock that can be stopped, would be in
/// what is measured.
const BUILD: [&str; 7] = ["build", "--release", "--locked", "--package", "atoll", "--package", "atoll-bench"];

/// Installs, builds, and becomes `atoll-bench`.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let release = workspace::target()?.join("release");
    let measures = !arguments.iter().any(|a| ["report", "help", "-h", "--help"].iter().any(|word| a == word));
    if measures {
        prerequisites::ensure(prerequisites::BENCH)?;
        tools::ensure(tools::BENCH)?;
        workspace::succeed(&mut workspace::cargo(BUILD))?;
    } else {
        workspace::succeed(&mut workspace::cargo(["build", "--quiet", "--locked", "--package", "atoll-bench"]))?;
    }
    let binary = if measures { release.clone() } else { workspace::binaries()? }.join("atoll-bench");
    let mut bench = Command::new(&binary);
    bench.args(arguments).current_dir(workspace::root());
    // Where they are when the target folder is another one.
    bench.env("ATOLL_BENCH_ATOLL", release.join("atoll"));
    bench.env("ATOLL_BENCH_DISTRIBUTION", tools::folder()?.join("registry"));
    Err(bench.exec()).with_context(|| format!("cannot run {}", binary.display()))
}

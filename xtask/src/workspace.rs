//! Where things are in this checkout, and how cargo is called.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder that this build's binaries are in.
pub(crate) fn binaries() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this binary is")?;
    Ok(this.parent().unwrap_or(Path::new(".")).to_owned())
}

/// The folder that all builds are below.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let binaries = binaries()?;
    Ok(binaries.parent().unwrap_or(&binaries).to_owned())
}

/// Cargo, in the workspace, as the one that started this.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs to the end, and fails if the command does.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let program = Path::new(command.get_program()).file_name().map(OsStr::to_string_lossy);
    let rest = words.skip(1).map(OsStr::to_string_lossy);
    program.into_iter().chain(rest).collect::<Vec<_>>().join(" ")
}

//! `atoll serve`: one node, until it is told to end.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::Failure;
use crate::config::NodeConfig;

/// What `serve` is told.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End when the process that started this one ends, or closes this one's standard input
    #[arg(long)]
    die_with_parent: bool,
}

/// What is run in place of this program.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Becomes another program. What the kernel was told of the parent's death stays.
pub(super) fn exec(args: &ExecArgs) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).context("cannot start")?;
    let (program, arguments) = args.command.split_first().context("no program is named")?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(anyhow::Error::new(error).context(format!("cannot run {}", program.display())).into())
}

/// Runs the node.
pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    if args.die_with_parent {
        tie_to_parent()?;
    }
    Ok(crate::node::run(NodeConfig::load(&args.config)?)?)
}

/// Two ways, because each has a gap: the kernel's signal also ends a node that is stuck, but is not everywhere, and
/// is lost when the parent dies before it is asked for; standard input ends with the parent, however it dies.
fn tie_to_parent() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    std::thread::Builder::new().name("parent-watch".into()).spawn(|| {
        // Nothing is ever written: the copy returns when the other end is closed.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    })?;
    Ok(())
}

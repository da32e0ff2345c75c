//! `atoll serve`: one node, until it is told to end.

use std::path::PathBuf;

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

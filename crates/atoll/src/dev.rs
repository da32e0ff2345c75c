//! `atoll dev`: a whole cluster on this machine, each node a process of its own.
//!
//! The supervisor owns the nodes: none outlives it, however it ends. It stays in the foreground; `atoll dev start |
//! stop | restart NODE` reach it over a socket in the data folder.

mod banner;
mod cluster;
mod control;
mod folder;
mod keeper;
mod probe;
mod process;
mod stores;
mod supervisor;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::config::Topology;
use folder::DevFolder;

/// What `dev` is told.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The nodes to start [default: three regions of one node each]
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Where all data is kept [default: atoll/dev in your data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where blobs are kept; a data folder keeps to what it was made with [default: fs]
    #[arg(long, value_enum)]
    store: Option<StoreKind>,
    /// What to do with a node of the cluster that runs; without it, a cluster is started
    #[arg(value_enum, requires = "node")]
    verb: Option<Verb>,
    /// The node's name
    node: Option<String>,
}

/// Where blobs are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum StoreKind {
    /// In files of each node
    #[default]
    Fs,
    /// In an S3 server of each region (versitygw)
    S3,
}

/// What a running supervisor can be asked to do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Verb {
    /// Start a node that is down; done when it listens
    Start,
    /// Stop a node; done when its process is gone
    Stop,
    /// Stop a node and start it again; done when it listens
    Restart,
}

/// Runs a cluster until a signal, or passes a verb on to the supervisor that runs.
pub(crate) fn run(args: DevArgs) -> Result<(), Failure> {
    let folder = DevFolder::new(args.data)?;
    match (args.verb, args.node) {
        (Some(verb), Some(node)) => control::ask(&folder, verb, &node),
        _ => supervisor::run(&folder, &Topology::load(args.topology.as_deref())?, args.store),
    }
}

/// The admin address of the first node of the cluster that runs on the default data folder.
pub(crate) fn first_node_of_running() -> Option<String> {
    let folder = DevFolder::new(None).ok()?;
    std::os::unix::net::UnixStream::connect(folder.socket()).ok()?;
    let record = cluster::ClusterRecord::read(&folder).ok()??;
    record.nodes.first().map(|node| format!("http://{}", node.admin))
}

/// Tells the person who started the cluster. A closed terminal must not end it.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

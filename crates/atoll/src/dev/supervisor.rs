//! The supervisor: starts all nodes, serves its socket, and ends all nodes when it is told to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::cluster::{ClusterRecord, write_node_config};
use super::control::{self, Keepers};
use super::folder::DevFolder;
use super::keeper::{Ending, Keeper, KeeperHandle};
use super::process::{NodeFiles, Program};
use super::{StoreKind, Verb, banner, probe, say, stores};
use crate::cli::Failure;
use crate::config::Topology;

/// How long the nodes of a supervisor that was killed may take to end.
const KILLED_NODES_WAIT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(50);

/// Runs the cluster until SIGINT or SIGTERM.
pub(super) fn run(folder: &DevFolder, topology: &Topology, store: Option<StoreKind>) -> Result<(), Failure> {
    let _lock = folder.lock()?;
    let record = ClusterRecord::open(folder, topology, store)?;
    let topology = &match record.store {
        StoreKind::Fs => Topology { stores: Vec::new(), ..topology.clone() },
        StoreKind::S3 => topology.clone(),
    };
    refuse_occupied(folder, topology)?;
    if record.store == StoreKind::S3 {
        stores::prepare(folder, topology)?;
    }
    for node in &topology.nodes {
        write_node_config(folder, &record.node_config(folder, topology, node))?;
    }
    folder.install_binary()?;
    // One thread, the main one, which lives as long as the process: the nodes are tied to the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(supervise(folder, topology))
}

/// Refuses ports that something listens on; but nodes of a supervisor that was killed are still ending, and are waited
/// for: its socket is there yet.
fn refuse_occupied(folder: &DevFolder, topology: &Topology) -> anyhow::Result<()> {
    let killed = folder.socket().exists();
    let until = std::time::Instant::now() + KILLED_NODES_WAIT;
    loop {
        let refused = probe::refuse_occupied(topology);
        if refused.is_ok() || !killed || std::time::Instant::now() >= until {
            return refused;
        }
        std::thread::sleep(READY_POLL);
    }
}

async fn supervise(folder: &DevFolder, topology: &Topology) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut signals = Signals::new()?;
    let listener = control::listen(folder)?;
    let (ending, stores_ending) = (Ending::default(), Ending::default());
    let (stores, store_tasks) = keep_stores(folder, topology, &stores_ending)?;
    let (mut keepers, tasks) = keep_nodes(folder, topology, &ending);
    let nodes: Vec<KeeperHandle> = keepers.values().cloned().collect();
    keepers.extend(stores.clone());
    let keepers = Arc::new(keepers);
    let server = tokio::spawn(control::serve(listener, Arc::clone(&keepers)));

    say(format!("data in {}; starting {}", folder.path().display(), topology.names()));
    let outcome = tokio::select! {
        outcome = start_all(stores.into_values().collect(), nodes) => outcome,
        name = signals.next() => { say(format!("{name}: ending")); Ok(false) }
    };
    if let Ok(true) = outcome {
        say(banner::text(folder, topology));
        tokio::select! {
            () = async { tell_when_ready(topology, begun).await; std::future::pending().await } => {}
            name = signals.next() => say(format!("{name}: ending all nodes")),
        }
    }
    server.abort();
    end_all(&ending, tasks, &mut signals).await;
    // The nodes may have had something to write until now.
    end_all(&stores_ending, store_tasks, &mut signals).await;
    // Gone, so that `dev stop` says at once that nothing runs.
    let _ = std::fs::remove_file(folder.socket());
    outcome.map(drop)
}

fn keep_stores(
    folder: &DevFolder,
    topology: &Topology,
    ending: &Ending,
) -> anyhow::Result<(Keepers, Vec<JoinHandle<()>>)> {
    let again = banner::command(folder);
    let (mut keepers, mut tasks) = (Keepers::new(), Vec::new());
    for store in &topology.stores {
        let name = stores::name(&store.region)?;
        let program = stores::program(folder, store)?;
        let files = NodeFiles { binary: folder.binary(), folder: folder.node(&name), program };
        let (handle, task) = Keeper::spawn(name.clone(), store.s3, files, ending.clone(), again.clone());
        keepers.insert(name.to_string(), handle);
        tasks.push(task);
    }
    Ok((keepers, tasks))
}

fn keep_nodes(folder: &DevFolder, topology: &Topology, ending: &Ending) -> (Keepers, Vec<JoinHandle<()>>) {
    let again = banner::command(folder);
    let mut keepers = Keepers::new();
    let mut tasks = Vec::new();
    for node in &topology.nodes {
        let program = Program::node(&folder.node(&node.name));
        let files = NodeFiles { binary: folder.binary(), folder: folder.node(&node.name), program };
        let (handle, task) = Keeper::spawn(node.name.clone(), node.http, files, ending.clone(), again.clone());
        keepers.insert(node.name.to_string(), handle);
        tasks.push(task);
    }
    (keepers, tasks)
}

/// Starts all nodes at once, after their stores. One that does not start is reported and left down; if no node does, it is
/// a failure.
async fn start_all(stores: Vec<KeeperHandle>, nodes: Vec<KeeperHandle>) -> Result<bool, Failure> {
    for answer in join_all(stores.iter().map(|keeper| keeper.ask(Verb::Start))).await {
        match answer {
            Ok(message) | Err(message) => say(message),
        }
    }
    let answers = join_all(nodes.iter().map(|keeper| keeper.ask(Verb::Start))).await;
    for answer in &answers {
        match answer {
            Ok(message) | Err(message) => say(message),
        }
    }
    if answers.iter().all(Result::is_err) {
        return Err(Failure::Failed("no node started; what each said stands above".into()));
    }
    Ok(true)
}

async fn tell_when_ready(topology: &Topology, begun: Instant) {
    for node in &topology.nodes {
        while !probe::takes_pushes(node.http).await {
            sleep(READY_POLL).await;
        }
    }
    say(format!("all nodes take pushes, {:.1} s after the start", begun.elapsed().as_secs_f32()));
}

/// Ends all nodes and waits for them; another signal kills those that are left.
async fn end_all(ending: &Ending, tasks: Vec<JoinHandle<()>>, signals: &mut Signals) {
    ending.begun.cancel();
    let mut all = std::pin::pin!(join_all(tasks));
    tokio::select! {
        _ = &mut all => return,
        name = signals.next() => say(format!("{name} again: killing what is left")),
    }
    ending.hurry.cancel();
    all.await;
}

/// What tells a supervisor to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch signals");
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

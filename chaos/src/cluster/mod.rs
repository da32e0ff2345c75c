//! A cluster of real processes, on ports and folders of its own, whose nodes reach each other over links.

mod ask;
pub(crate) mod disk;
pub(crate) mod ports;
mod process;
pub(crate) mod spec;

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;

pub(crate) use self::ask::{Desk, Lag, Status};
use self::process::Process;
pub(crate) use self::spec::More;
pub(crate) use self::spec::Timing;
use self::spec::{Addresses, REGIONS};
use crate::client::Client;
use crate::history::{Recorder, Started};
use crate::link::{Links, Pids};
use crate::wait::wait_for;

/// How long a node may take to be ready after its start: far more than it takes, so that a busy machine fails nothing.
pub(crate) const READY_WAIT: Duration = Duration::from_secs(60);
/// Nodes in a cluster.
pub(crate) const NODES: usize = REGIONS.len();

/// Of a log, for people.
const TAIL_BYTES: usize = 8 << 10;
/// Words of logs, and what they violate.
const ALARMS: [(&str, &str); 2] = [("panicked at", "I14"), (REVERTED, "I1")];
/// openraft's, of a follower whose log is shorter than it was.
pub(crate) const REVERTED: &str = "follower log is reverted";

/// A node that should be ready is not: not a failure of the harness.
#[derive(Debug)]
pub(crate) struct NotBack(pub(crate) String);

impl std::fmt::Display for NotBack {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for NotBack {}

/// How a cluster is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The program under test.
    pub(crate) binary: PathBuf,
    pub(crate) timing: Timing,
    pub(crate) more: More,
    /// Variables of every start; `{node}` in a value is the node's name.
    pub(crate) environment: Vec<(String, String)>,
    /// Variables of the first node alone.
    pub(crate) environment_of_one: Vec<(String, String)>,
    /// A disk of its own for each node; needs root.
    pub(crate) disk: Option<disk::Kind>,
}

/// A cluster. Dropped, its processes are killed and its folders removed.
pub(crate) struct Cluster {
    pub(crate) desk: Arc<Desk>,
    pub(crate) links: Links,
    pub(crate) options: Options,
    /// Where starts are written down.
    pub(crate) recorder: Option<Arc<Recorder>>,
    processes: Vec<Option<Process>>,
    pids: Arc<Mutex<Pids>>,
    /// Nodes that were started with variables of their own.
    armed: [bool; NODES],
    disks: Vec<disk::Disk>,
    /// Bytes of each node's log that were looked through.
    logs_read: [u64; NODES],
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts all nodes and returns once each takes pushes.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        (0..NODES).try_for_each(|node| self.start_node(node, &[]))?;
        self.wait_ready()
    }

    /// A cluster none of whose nodes runs yet.
    pub(crate) fn unstarted(options: Options) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("atoll-chaos-").tempdir().context("no temporary folder")?;
        let links = Links::new(NODES)?;
        let pids = Arc::new(Mutex::new(vec![None; NODES]));
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let listen = Addresses { http: ports::free()?, grpc: ports::free()?, admin: ports::free()? };
            let http = links.open(node, listen.http, pids.clone())?;
            let grpc = links.open(node, listen.grpc, pids.clone())?;
            nodes.push(spec::spec(node, folder.path(), listen, Addresses { http, grpc, admin: listen.admin }));
        }
        let id = random_id();
        let mut disks = Vec::new();
        for (place, node) in nodes.iter().enumerate() {
            std::fs::create_dir_all(node.disk()).context("cannot make the folder of a node")?;
            if let Some(kind) = options.disk {
                disks.push(disk::Disk::mount(&node.disk(), kind)?);
            }
            std::fs::write(node.config(), spec::config(&nodes, place, &id, options.timing, options.more))
                .context("cannot write a configuration")?;
        }
        let processes = (0..NODES).map(|_| None).collect();
        let desk = Arc::new(Desk { binary: options.binary.clone(), nodes, away: Default::default() });
        let armed = [false; NODES];
        Ok(Self {
            desk,
            links,
            options,
            recorder: None,
            processes,
            pids,
            armed,
            disks,
            logs_read: [0; NODES],
            _folder: folder,
        })
    }

    /// Starts a node that does not run, with more variables for this start alone.
    pub(crate) fn start_node(&mut self, node: usize, environment: &[(String, String)]) -> anyhow::Result<()> {
        if self.processes[node].is_some() {
            bail!("{} runs already", self.desk.nodes[node].name);
        }
        let spec = &self.desk.nodes[node];
        let own = |(name, value): &(String, String)| (name.clone(), spec.fill_in(value));
        let mut all: Vec<_> = self.options.environment.iter().map(own).collect();
        if node == 0 {
            all.extend_from_slice(&self.options.environment_of_one);
        }
        all.push(("ATOLL_FAILPOINTS_VISITS".to_owned(), spec.visits().display().to_string()));
        all.extend_from_slice(environment);
        let process = Process::start(&self.options.binary, spec, &all)?;
        self.pids.lock()[node] = Some(process.pid());
        self.processes[node] = Some(process);
        self.armed[node] = !environment.is_empty();
        self.note_start(node, false);
        Ok(())
    }

    fn note_start(&self, node: usize, damaged: bool) {
        if let Some(recorder) = &self.recorder {
            let at = recorder.now();
            recorder.add(|h| h.starts.push(Started { node, at, damaged }));
        }
    }

    /// Starts a node whose files were damaged: it may have forgotten what it knew.
    pub(crate) fn start_damaged(&mut self, node: usize) -> anyhow::Result<()> {
        // Before it can be asked.
        self.note_start(node, true);
        self.start_node(node, &[])
    }

    /// Kills a node that runs, or was known to have ended. One that has ended by itself, unseen, is no node that was killed.
    pub(crate) fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        let status = self.processes[node].as_mut().and_then(Process::ended);
        self.kill_if_it_runs(node)?;
        let Some(status) = status else { return Ok(()) };
        let name = &self.desk.nodes[node].name;
        Err(NotBack(format!("{name} had ended by itself ({status})\n{}", self.log_tail(node))).into())
    }

    /// Kills a node that may well have ended: what was done to it is reason enough.
    pub(crate) fn kill_if_it_runs(&mut self, node: usize) -> anyhow::Result<()> {
        self.pids.lock()[node] = None;
        self.processes[node].take().map_or(Ok(()), Process::kill)
    }

    /// Whether a node was started with variables of its own.
    pub(crate) fn is_armed(&self, node: usize) -> bool {
        self.armed[node]
    }

    /// Ends a node in good order; how it ended.
    pub(crate) fn terminate(&mut self, node: usize) -> anyhow::Result<ExitStatus> {
        let process = self.processes[node].take().context("a node that does not run cannot be ended")?;
        self.pids.lock()[node] = None;
        process.terminate().map_err(|error| NotBack(format!("{error:#}\n{}", self.log_tail(node))).into())
    }

    /// The exit code of a node that ended by itself (its signal as a negative number), `None` while it runs.
    pub(crate) fn ended(&mut self, node: usize) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.processes[node].as_mut()?.ended()?;
        self.processes[node] = None;
        self.pids.lock()[node] = None;
        Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)))
    }

    /// Whether its process runs.
    pub(crate) fn is_alive(&mut self, node: usize) -> bool {
        self.processes[node].as_mut().is_some_and(Process::is_alive)
    }

    /// Its process.
    pub(crate) fn pid(&self, node: usize) -> Option<u32> {
        self.processes[node].as_ref().map(Process::pid)
    }

    /// Numbers of all processes that run, shared with those who watch them.
    pub(crate) fn pids(&self) -> Arc<Mutex<Pids>> {
        self.pids.clone()
    }

    /// Stops a node's threads.
    pub(crate) fn pause(&self, node: usize) -> anyhow::Result<()> {
        self.processes[node].as_ref().context("a node that does not run cannot be paused")?.pause()
    }

    /// Lets a node go on.
    pub(crate) fn resume(&self, node: usize) -> anyhow::Result<()> {
        self.processes[node].as_ref().map_or(Ok(()), Process::resume)
    }

    /// The node that leads, as far as nodes say.
    pub(crate) fn leader(&self) -> Option<usize> {
        let running = (0..NODES).filter(|n| self.pid(*n).is_some());
        running.into_iter().find(|n| self.desk.raft(*n).is_some_and(|s| s.leads))
    }

    /// A client of a node.
    pub(crate) fn client(&self, node: usize) -> Client {
        Client::new(node, self.desk.nodes[node].listen.http)
    }

    /// Waits until every node takes pushes.
    pub(crate) fn wait_ready(&mut self) -> anyhow::Result<()> {
        (0..NODES).try_for_each(|node| self.wait_node_ready(node))
    }

    /// Waits until a node takes pushes; one that ends instead is told with the end of its log.
    pub(crate) fn wait_node_ready(&mut self, node: usize) -> anyhow::Result<()> {
        let client = self.client(node);
        let mut ended = None;
        let ready = wait_for("the node takes pushes", READY_WAIT, || {
            ended = self.ended(node);
            (ended.is_some() || client.ready()).then_some(())
        });
        let name = &self.desk.nodes[node].name;
        let why = match (ended, ready) {
            (Some(code), _) => format!("{name} ended with {code} instead of being ready"),
            (None, Err(error)) => format!("{name} is not ready: {error:#}"),
            (None, Ok(())) => return Ok(()),
        };
        Err(NotBack(format!("{why}\n{}", self.log_tail(node))).into())
    }

    /// Free bytes of a node's small disk are taken, or given back.
    pub(crate) fn disk(&mut self, node: usize) -> Option<&mut disk::Disk> {
        self.disks.get_mut(node)
    }

    /// These nodes' disks lose their power, all at once.
    pub(crate) fn cut_power(&self, nodes: &[usize]) -> anyhow::Result<()> {
        let disks: Vec<&disk::Disk> = nodes.iter().filter_map(|node| self.disks.get(*node)).collect();
        anyhow::ensure!(disks.len() == nodes.len(), "the run has no disks that lose power");
        disk::cut_power(&disks)
    }

    /// The disk of a node that does not run has power again.
    pub(crate) fn restore_power(&self, node: usize) -> anyhow::Result<()> {
        self.disks.get(node).context("the run has no disks that lose power")?.restore_power()
    }

    /// The end of a node's log.
    pub(crate) fn log_tail(&self, node: usize) -> String {
        self.log_end(node, TAIL_BYTES)
    }

    /// So many bytes of its end.
    pub(crate) fn log_end(&self, node: usize, bytes_max: usize) -> String {
        let log = self.desk.nodes[node].log();
        let length = log.metadata().map_or(0, |m| m.len());
        String::from_utf8_lossy(&read_from(&log, length.saturating_sub(bytes_max as u64))).into_owned()
    }

    /// What nodes said that none may say, since this was asked before: that a thread panicked, and that a follower lost
    /// what it had acknowledged.
    pub(crate) fn alarms(&mut self) -> Vec<(&'static str, String)> {
        let mut alarms = Vec::new();
        for (node, from) in self.desk.nodes.iter().zip(&mut self.logs_read) {
            let fresh = read_from(&node.log(), *from);
            *from += fresh.len() as u64;
            let fresh = String::from_utf8_lossy(&fresh);
            for (words, invariant) in ALARMS {
                let said = fresh.lines().filter(|line| line.contains(words));
                alarms.extend(said.map(|line| (invariant, format!("{}: {line}", node.name))));
            }
        }
        alarms
    }

    /// Copies logs and configurations to a folder that outlives the cluster.
    pub(crate) fn keep_logs(&self, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        for node in &self.desk.nodes {
            for (from, what) in [(node.log(), "log"), (node.config(), "toml")] {
                // One that was never started has no log.
                let _ = std::fs::copy(from, to.join(format!("{}.{what}", node.name)));
            }
        }
        Ok(())
    }
}

/// A file from a byte on; nothing of one that cannot be read.
fn read_from(path: &Path, from: u64) -> Vec<u8> {
    let read = || -> std::io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (std::fs::File::open(path)?, Vec::new());
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_default()
}

fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Before their disks are unmounted.
        self.processes.clear();
        self.disks.clear();
    }
}

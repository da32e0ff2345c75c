//! The process of a node.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::spec::NodeSpec;
use crate::wait::wait_for;

/// How long a process may take to be gone after a signal that it cannot refuse.
const DEATH_WAIT: Duration = Duration::from_secs(20);

/// A process that was started here. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    /// Held open: a node whose standard input ends does so too.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts a node. It dies with the thread that started it.
    pub(crate) fn start(binary: &Path, spec: &NodeSpec, environment: &[(String, String)]) -> anyhow::Result<Self> {
        let log = OpenOptions::new().append(true).create(true).open(spec.log());
        let log = log.with_context(|| format!("cannot open the log of {}", spec.name))?;
        let mut child = Command::new(binary)
            .args(["serve", "--die-with-parent", "--config"])
            .arg(spec.config())
            .envs(environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { _lifeline: child.stdin.take(), pid: Pid::from_child(&child), child })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, and returns when it is gone.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill a node")?;
        self.child.wait().map(drop).context("cannot wait for a node")
    }

    /// Asks it to end, and returns how it did.
    pub(crate) fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        wait_for("a node that was asked to end is gone", DEATH_WAIT, || self.ended())
    }

    /// Stops all of its threads, and returns when they are.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        wait_for("all threads are stopped", DEATH_WAIT, || self.threads().iter().all(|s| *s == 'T').then_some(()))
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Until it is waited for, its number is not used again.
        kill_process(self.pid, signal).context("cannot signal a node")
    }

    /// The state of each thread (proc_pid_stat(5)).
    fn threads(&self) -> Vec<char> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        stats.filter_map(|stat| stat.rsplit(") ").next()?.chars().next()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The process of a node.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::folder::replace;

/// How long a node may take to end by itself; below the 10 s in which all must be gone.
const GRACE: Duration = Duration::from_secs(8);
/// A log beyond this is put aside at the next start of its node, in place of the one before.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// What a process is started from.
#[derive(Clone, Debug)]
pub(super) struct NodeFiles {
    /// `atoll`.
    pub(super) binary: PathBuf,
    /// `DATA/<node>`.
    pub(super) folder: PathBuf,
    /// What `atoll` is told.
    pub(super) program: Program,
}

/// What `atoll` is told to run.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A node, whose configuration is in its folder.
    pub(super) fn node(folder: &Path) -> Self {
        let config = folder.join("node.toml").into_os_string();
        let arguments = vec!["serve".into(), "--die-with-parent".into(), "--config".into(), config];
        Self { arguments, environment: Vec::new() }
    }
}

impl NodeFiles {
    /// Where the node's output goes.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Starts the process and writes `pid`.
    ///
    /// It must be called on the supervisor's main thread: the kernel ends the node when the *thread* that started it
    /// ends. Standard input is a pipe that this process alone holds open, for the same purpose.
    pub(super) fn spawn(&self) -> anyhow::Result<Process> {
        let log = open_log(&self.log())?;
        let mut child = Command::new(&self.binary)
            .args(&self.program.arguments)
            .envs(self.program.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group: the supervisor alone shall get it, and end the nodes.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let process = Process { _lifeline: child.stdin.take(), child };
        replace(&self.folder.join("pid"), format!("{}\n", process.child.id().unwrap_or_default()).as_bytes())?;
        Ok(process)
    }

    /// The last lines of the log, for a message.
    pub(super) fn log_tail(&self) -> String {
        const TAIL_BYTES: u64 = 4 << 10;
        const TAIL_LINES: usize = 5;
        let text = read_end(&self.log(), TAIL_BYTES).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ")
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if std::fs::metadata(path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("1")).context("cannot put the old log aside")?;
    }
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

fn read_end(path: &Path, bytes: u64) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// A node that runs, or that ended and was not yet noticed. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Held open, apart from the child because waiting for one closes its standard input.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Its pid, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends. May be dropped and called again.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end, and kills it if it does not within the grace, or as soon as `hurry` is cancelled.
    pub(super) async fn stop(mut self, hurry: &CancellationToken) -> std::io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        // A stopped process takes no signal but this one and the last.
        self.signal(Signal::CONT);
        tokio::select! {
            status = self.wait() => return status,
            () = tokio::time::sleep(GRACE) => {}
            () = hurry.cancelled() => {}
        }
        self.signal(Signal::KILL);
        self.wait().await
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended just now; until it is waited for, its pid is not used again.
            let _ = kill_process(pid, signal);
        }
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: &std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("killed by signal {signal}"),
            (None, Some(code)) => format!("exited with code {code}"),
            (None, None) => status.to_string(),
        },
        Err(error) => format!("died, and cannot be waited for: {error}"),
    }
}

//! fsync that fails, injected by `strace`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::Scene;
use crate::cluster::READY_WAIT;
use crate::wait::wait_for;

/// How long a tracer may take to hold all threads.
const ATTACH_WAIT: Duration = Duration::from_secs(20);
/// How long a node may live on whose log could not be synced.
const END_WAIT: Duration = Duration::from_secs(20);

/// The next fsync of each thread fails, and those after it do not.
pub(super) fn once(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    failing(scene, "when=1")
}

/// All fail.
pub(super) fn for_good(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    failing(scene, "when=1+")
}

fn failing(scene: &mut Scene<'_>, when: &str) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let pid = scene.cluster.pid(node).context("a node that does not run has no fsync")?;
    let calls = scene.cluster.desk.nodes[node].folder.join("calls");
    let mut tracer = trace(pid, when, &calls)?;
    wait_for("the tracer holds the node", ATTACH_WAIT, || is_traced(pid).then_some(()))?;
    // Clients are at work: it does not take long.
    let log = scene.cluster.desk.nodes[node].data().join("log");
    // Lines of calls that overlap are told in two parts: that it ends tells as much.
    let failed = |scene: &mut Scene<'_>| has_failed(&calls, &log) || !scene.cluster.is_alive(node);
    wait_for("a sync of the log fails", READY_WAIT, || failed(scene).then_some(()))?;
    let ended = wait_for("a node whose log cannot be synced ends", END_WAIT, || scene.cluster.ended(node).map(drop));
    if let Err(error) = ended {
        // It may acknowledge what is not on its disk.
        scene.found.push(("I1", format!("node {node}: {error:#}")));
    }
    scene.last(0, 2_000);
    // A tracer that is asked to end lets go of its process first; that of a dead process has ended.
    if let Ok(None) = tracer.try_wait() {
        let _ = kill_process(Pid::from_child(&tracer), Signal::INT);
    }
    if wait_for("the tracer ends", ATTACH_WAIT, || tracer.try_wait().ok().flatten()).is_err() {
        tracer.kill().context("the tracer cannot be killed")?;
        tracer.wait().context("the tracer cannot be waited for")?;
    }
    scene.cluster.kill_if_it_runs(node)?;
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

/// Paths are shown, so that it is known what could not be synced.
fn trace(pid: u32, when: &str, calls: &Path) -> anyhow::Result<Child> {
    Command::new("strace")
        .args(["-f", "-qq", "-y", "-o"])
        .arg(calls)
        .args(["-e", "trace=fsync,fdatasync", "-e"])
        .arg(format!("inject=fsync,fdatasync:error=EIO:{when}"))
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run strace; install it")
}

/// Whether a sync of a file below a folder was made to fail.
fn has_failed(calls: &Path, folder: &Path) -> bool {
    let text = std::fs::read_to_string(calls).unwrap_or_default();
    let folder = format!("<{}/", folder.display());
    text.lines().any(|line| line.contains(&folder) && line.contains("(INJECTED)"))
}

fn is_traced(pid: u32) -> bool {
    let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().collect();
    let traced = |status: String| status.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|t| t.trim() != "0"));
    // A process that is gone is traced no more, and there is nothing to wait for.
    tasks.iter().all(|t| std::fs::read_to_string(t.path().join("status")).map_or(true, traced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_was_made_to_fail_is_told_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let calls = folder.path().join("calls");
        let told = |line: &str| {
            std::fs::write(&calls, line).unwrap();
            has_failed(&calls, Path::new("/d/log"))
        };
        assert!(told("7 fdatasync(12</d/log/000004.log>) = -1 EIO (Input/output error) (INJECTED)\n"));
        assert!(!told("7 fdatasync(12</d/blobs/tmp/1>) = -1 EIO (Input/output error) (INJECTED)\n"));
        assert!(!told("7 fdatasync(12</d/log/000004.log>) = 0\n"));
        assert!(!told(""));
    }
}

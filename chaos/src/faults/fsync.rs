//! fsync that fails, injected by `strace`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::Scene;
use crate::wait::wait_for;

/// How long a tracer may take to hold all threads.
const ATTACH_WAIT: Duration = Duration::from_secs(20);

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
    let pid = scene.cluster.pid(node).context("a node that does not run has no fsync")?;
    let mut tracer = trace(pid, when)?;
    wait_for("the tracer holds the node", ATTACH_WAIT, || is_traced(pid).then_some(()))?;
    scene.last(1_500, 4_000);
    // A tracer that is asked to end lets go of its process first; that of a dead process has ended.
    if let Ok(None) = tracer.try_wait() {
        let _ = kill_process(Pid::from_child(&tracer), Signal::INT);
    }
    tracer.wait().context("the tracer cannot be waited for")?;
    // A node whose log cannot be synced has ended; one that goes on is killed: what it did not sync it may not have
    // acknowledged.
    if scene.cluster.ended(node).is_none() {
        scene.cluster.kill(node)?;
    }
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

fn trace(pid: u32, when: &str) -> anyhow::Result<Child> {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"])
        .arg(format!("inject=fsync,fdatasync:error=EIO:{when}"))
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run strace; install it")
}

fn is_traced(pid: u32) -> bool {
    let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().collect();
    let traced = |status: String| status.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|t| t.trim() != "0"));
    // A process that is gone is traced no more, and there is nothing to wait for.
    tasks.iter().all(|t| std::fs::read_to_string(t.path().join("status")).map_or(true, traced))
}

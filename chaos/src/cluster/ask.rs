//! What the cluster says of itself: its command line and its metrics.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NODES;
use super::spec::NodeSpec;
use crate::client::Client;

/// Seconds after which a question has no answer.
const ANSWER_WAIT_S: &str = "120";

/// What `replication status` says of a region, and as of which revision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lag {
    pub(crate) region: String,
    pub(crate) known: Option<String>,
    pub(crate) blobs: Option<u64>,
    pub(crate) bytes: Option<u64>,
    #[serde(default)]
    pub(crate) oldest_age_ms: Option<u64>,
}

/// What a node's metrics say of Raft.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    pub(crate) leads: bool,
    pub(crate) term: u64,
}

/// What it takes to ask the nodes, without their processes: shared with those who watch.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) binary: PathBuf,
    pub(crate) nodes: Vec<NodeSpec>,
    /// Nodes whose store is not where it should be, so that it tells nothing.
    pub(crate) away: [AtomicBool; NODES],
}

impl Desk {
    /// A node's store goes away, or is there again with its node ready.
    pub(crate) fn set_away(&self, node: usize, away: bool) {
        self.away[node].store(away, Ordering::SeqCst);
    }

    /// Which stores are away.
    pub(crate) fn away(&self) -> [bool; NODES] {
        std::array::from_fn(|node| self.away[node].load(Ordering::SeqCst))
    }

    /// The command line, asked of a node, however it ends.
    pub(crate) fn try_ask(&self, node: usize, arguments: &[&str]) -> anyhow::Result<Output> {
        let url = format!("http://{}", self.nodes[node].listen.admin);
        // Some questions may take an hour, as far as the command line is concerned.
        Command::new("timeout")
            .args(["--kill-after=1", ANSWER_WAIT_S])
            .arg(&self.binary)
            .args(["--node", &url, "--output", "json"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot run the command line")
    }

    /// The command line's answer as JSON.
    pub(crate) fn ask(&self, node: usize, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.try_ask(node, arguments)?;
        if !output.status.success() {
            bail!("{arguments:?} at {}: {}", self.nodes[node].name, String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?} did not answer in JSON"))
    }

    /// The revision of a node's view, and the lag of each region in it.
    pub(crate) fn lag(&self, node: usize) -> anyhow::Result<(u64, Vec<Lag>)> {
        let status = self.ask(node, &["replication", "status"])?;
        let revision = status["revision"].as_u64().context("replication status has no revision")?;
        Ok((revision, serde_json::from_value(status["regions"].clone()).context("replication status has no regions")?))
    }

    /// What a node's metrics say of Raft; `None` when it does not answer.
    pub(crate) fn raft(&self, node: usize) -> Option<Status> {
        raft_status(&self.admin(node))
    }

    /// A client of a node's admin address.
    pub(crate) fn admin(&self, node: usize) -> Client {
        Client::brief(node, self.nodes[node].listen.admin)
    }
}

fn raft_status(admin: &Client) -> Option<Status> {
    let page = admin.get("/metrics", &[]).answer()?;
    let page = String::from_utf8(page.body).ok()?;
    let gauge = |name: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    Some(Status { leads: gauge("atoll_raft_leader")? > 0.0, term: gauge("atoll_raft_term")? as u64 })
}

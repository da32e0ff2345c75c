//! Answers for people (tables) and for programs (JSON, whose fields never change their meaning).

use std::io::Write;

use atoll_proto::admin::v1::{
    ClusterCheckResponse, ClusterStatusResponse, Known, Mode, NodeHash, NodeStatus, RegionLag,
    ReplicationStatusResponse, Role,
};
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::json;

use super::Failure;
use super::admin::Answer;

impl Answer {
    /// One JSON document; what is not known is null.
    pub(super) fn json(&self) -> Result<String, Failure> {
        let value = match self {
            Self::ClusterStatus(status) => serde_json::to_value(ClusterStatusView::from(status)),
            Self::Check(check) => serde_json::to_value(CheckView::from(check)),
            Self::Init(init) => Ok(json!({ "cluster_id": init.cluster_id })),
            Self::ReplicationStatus(status) => serde_json::to_value(ReplicationView::from(status)),
            Self::SetPaused { paused, answer } => {
                Ok(json!({ "revision": answer.revision, "regions": answer.regions, "paused": paused }))
            }
        };
        value.and_then(|v| serde_json::to_string_pretty(&v)).map_err(|e| Failure::Failed(e.to_string()))
    }

    /// What a person reads.
    pub(super) fn table(&self) -> String {
        match self {
            Self::ClusterStatus(status) => cluster_table(status),
            Self::Check(check) => check_table(check),
            Self::Init(init) => format!("cluster {} is made", init.cluster_id),
            Self::ReplicationStatus(status) => replication_table(status),
            Self::SetPaused { paused, answer } => {
                let done = if *paused { "paused" } else { "resumed" };
                format!("{done} at revision {}: {}", answer.revision, answer.regions.join(", "))
            }
        }
    }

    /// Whether what was answered counts as success.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        match self {
            Self::Check(check) if !check.equal => Err(Failure::Failed(format!(
                "the nodes differ at revision {}; keep their data folders, and see docs/operations.md",
                check.revision
            ))),
            _ => Ok(()),
        }
    }
}

/// Writes an answer to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::Failed(format!("cannot write the answer: {e}")))
}

#[derive(Serialize)]
struct ClusterStatusView<'a> {
    cluster_id: &'a str,
    epoch: u64,
    revision: u64,
    nodes: Vec<NodeView<'a>>,
}

#[derive(Serialize)]
struct NodeView<'a> {
    name: &'a str,
    region: &'a str,
    role: &'static str,
    leader: Option<bool>,
    applied_revision: Option<u64>,
    mode: Option<&'static str>,
    staleness_ms: Option<u64>,
    pid: Option<u32>,
}

impl<'a> From<&'a ClusterStatusResponse> for ClusterStatusView<'a> {
    fn from(status: &'a ClusterStatusResponse) -> Self {
        let nodes = status.nodes.iter().map(NodeView::from).collect();
        Self { cluster_id: &status.cluster_id, epoch: status.epoch, revision: status.revision, nodes }
    }
}

impl<'a> From<&'a NodeStatus> for NodeView<'a> {
    fn from(node: &'a NodeStatus) -> Self {
        Self {
            name: &node.name,
            region: &node.region,
            role: role(node.role()),
            leader: node.leader,
            applied_revision: node.applied_revision,
            mode: mode(node),
            staleness_ms: node.staleness_ms,
            pid: node.pid,
        }
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Voter => "voter",
        Role::Learner => "learner",
        Role::Witness => "witness",
        Role::Unspecified => "unknown",
    }
}

fn mode(node: &NodeStatus) -> Option<&'static str> {
    match Mode::try_from(node.mode?).ok()? {
        Mode::ReadWrite => Some("read-write"),
        Mode::ReadOnly => Some("read-only"),
        Mode::Unspecified => None,
    }
}

#[derive(Serialize)]
struct CheckView<'a> {
    revision: u64,
    nodes: Vec<HashView<'a>>,
    equal: bool,
}

#[derive(Serialize)]
struct HashView<'a> {
    name: &'a str,
    revision: u64,
    state_hash: &'a str,
}

impl<'a> From<&'a ClusterCheckResponse> for CheckView<'a> {
    fn from(check: &'a ClusterCheckResponse) -> Self {
        let view = |n: &'a NodeHash| HashView { name: &n.name, revision: n.revision, state_hash: &n.state_hash };
        Self { revision: check.revision, nodes: check.nodes.iter().map(view).collect(), equal: check.equal }
    }
}

#[derive(Serialize)]
struct ReplicationView<'a> {
    revision: u64,
    staleness_ms: Option<u64>,
    regions: Vec<LagView<'a>>,
}

#[derive(Serialize)]
struct LagView<'a> {
    region: &'a str,
    known: Option<&'static str>,
    blobs: u64,
    bytes: u64,
    oldest_age_ms: Option<u64>,
}

impl<'a> From<&'a ReplicationStatusResponse> for ReplicationView<'a> {
    fn from(status: &'a ReplicationStatusResponse) -> Self {
        let regions = status.regions.iter().map(LagView::from).collect();
        Self { revision: status.revision, staleness_ms: status.staleness_ms, regions }
    }
}

impl<'a> From<&'a RegionLag> for LagView<'a> {
    fn from(lag: &'a RegionLag) -> Self {
        let (region, known) = (&lag.region, known(lag.known()));
        Self { region, known, blobs: lag.blobs, bytes: lag.bytes, oldest_age_ms: lag.oldest_age_ms }
    }
}

const fn known(known: Known) -> Option<&'static str> {
    match known {
        Known::Exactly => Some("exactly"),
        Known::AtLeast => Some("at-least"),
        Known::AtMost => Some("at-most"),
        Known::Unspecified => None,
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

fn cluster_table(status: &ClusterStatusResponse) -> String {
    let mut table = table(["NODE", "REGION", "ROLE", "LEADER", "REVISION", "MODE", "STALENESS", "PID"]);
    for node in &status.nodes {
        table.add_row([
            node.name.clone(),
            node.region.clone(),
            role(node.role()).into(),
            or_dash(node.leader.map(|l| if l { "yes" } else { "no" })),
            or_dash(node.applied_revision),
            or_dash(mode(node)),
            or_dash(node.staleness_ms.map(|ms| format!("{ms} ms"))),
            or_dash(node.pid),
        ]);
    }
    let ClusterStatusResponse { cluster_id, epoch, revision, .. } = status;
    format!("cluster {cluster_id}, epoch {epoch}, revision {revision}\n{}", table.trim_fmt())
}

fn check_table(check: &ClusterCheckResponse) -> String {
    let mut table = table(["NODE", "REVISION", "STATE HASH"]);
    for node in &check.nodes {
        table.add_row([node.name.clone(), node.revision.to_string(), node.state_hash.clone()]);
    }
    let verdict = if check.equal { "all equal" } else { "NOT EQUAL" };
    format!("{verdict} at revision {}\n{}", check.revision, table.trim_fmt())
}

fn replication_table(status: &ReplicationStatusResponse) -> String {
    let mut table = table(["REGION", "KNOWN", "BLOBS", "BYTES", "OLDEST", "FETCHES"]);
    for lag in &status.regions {
        table.add_row([
            lag.region.clone(),
            or_dash(known(lag.known())),
            lag.blobs.to_string(),
            lag.bytes.to_string(),
            or_dash(lag.oldest_age_ms.map(seconds)),
            if lag.paused { "paused" } else { "yes" }.into(),
        ]);
    }
    let age = status.staleness_ms.map_or_else(|| "of unknown age".into(), |ms| format!("at most {ms} ms old"));
    format!("as of revision {}, {age}\n{}", status.revision, table.trim_fmt())
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ClusterStatusResponse {
        let alive = NodeStatus {
            name: "us-east-1".into(),
            region: "us-east".into(),
            role: Role::Voter.into(),
            leader: Some(true),
            applied_revision: Some(7),
            mode: Some(Mode::ReadWrite.into()),
            staleness_ms: Some(12),
            pid: Some(42),
        };
        let silent = NodeStatus {
            name: "eu-west-1".into(),
            region: "eu-west".into(),
            role: Role::Voter.into(),
            ..Default::default()
        };
        ClusterStatusResponse { cluster_id: "00".into(), epoch: 1, revision: 7, nodes: vec![alive, silent] }
    }

    fn as_json(answer: &Answer) -> serde_json::Value {
        serde_json::from_str(&answer.json().unwrap()).unwrap()
    }

    #[test]
    fn cluster_status_has_the_documented_shape_and_null_for_the_unknown() {
        let expected = json!({
            "cluster_id": "00", "epoch": 1, "revision": 7,
            "nodes": [
                { "name": "us-east-1", "region": "us-east", "role": "voter", "leader": true, "applied_revision": 7,
                  "mode": "read-write", "staleness_ms": 12, "pid": 42 },
                { "name": "eu-west-1", "region": "eu-west", "role": "voter", "leader": null, "applied_revision": null,
                  "mode": null, "staleness_ms": null, "pid": null },
            ],
        });
        assert_eq!(as_json(&Answer::ClusterStatus(status())), expected);
    }

    #[test]
    fn replication_status_has_the_documented_shape() {
        let lag = RegionLag {
            region: "ap-south".into(),
            known: Known::AtLeast.into(),
            blobs: 2,
            bytes: 300,
            oldest_age_ms: None,
            paused: true,
        };
        let answer = ReplicationStatusResponse { revision: 9, staleness_ms: None, regions: vec![lag] };
        let expected = json!({
            "revision": 9, "staleness_ms": null,
            "regions": [{ "region": "ap-south", "known": "at-least", "blobs": 2, "bytes": 300, "oldest_age_ms": null }],
        });
        assert_eq!(as_json(&Answer::ReplicationStatus(answer)), expected);
    }

    #[test]
    fn a_check_that_finds_a_difference_fails() {
        let nodes = vec![NodeHash { name: "us-east-1".into(), revision: 3, state_hash: "ab".into() }];
        let mut check = ClusterCheckResponse { revision: 3, nodes, equal: true };
        let expected = json!({
            "revision": 3, "nodes": [{ "name": "us-east-1", "revision": 3, "state_hash": "ab" }], "equal": true,
        });
        assert_eq!(as_json(&Answer::Check(check.clone())), expected);
        assert!(Answer::Check(check.clone()).verdict().is_ok());
        check.equal = false;
        assert!(Answer::Check(check).verdict().is_err());
    }

    #[test]
    fn tables_show_what_is_known_and_a_dash_for_the_rest() {
        let table = Answer::ClusterStatus(status()).table();
        let silent = table.lines().find(|l| l.contains("eu-west-1")).unwrap();
        assert_eq!(silent.matches(" -").count(), 5, "{table}");
    }
}

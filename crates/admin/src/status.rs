//! The cluster as one node sees it.

use std::time::Duration;

use atoll_metadata::{NodeRole, RegisterNode, read};
use atoll_proto::admin::v1 as wire;
use atoll_registry::{MetadataGroup, MetadataGroupExt, Mode};
use futures::future::join_all;

use crate::{NodeReport, Nodes};

/// How long a node may take to answer before it is shown as unknown.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// All nodes: registered ones, and declared ones that have not registered yet.
pub(crate) fn known_nodes(metadata: &dyn MetadataGroup, nodes: &dyn Nodes) -> Vec<RegisterNode> {
    // A view that cannot be read still leaves what the configuration says.
    let mut known = metadata.read(|kv| read::nodes(kv)).unwrap_or_default();
    for declared in nodes.declared() {
        if !known.iter().any(|n| n.node == declared.node) {
            known.push(declared);
        }
    }
    known.sort_by_key(|n| n.node);
    known
}

pub(crate) async fn cluster_status(metadata: &dyn MetadataGroup, nodes: &dyn Nodes) -> wire::ClusterStatusResponse {
    let cluster = nodes.cluster();
    let known = known_nodes(metadata, nodes);
    let reports = join_all(known.iter().map(|node| nodes.report(node, None, ANSWER_WAIT))).await;
    wire::ClusterStatusResponse {
        cluster_id: cluster.id.to_string(),
        epoch: cluster.epoch,
        revision: metadata.freshness().applied.0,
        nodes: known.iter().zip(reports).map(|(node, report)| node_status(node, report)).collect(),
    }
}

fn node_status(node: &RegisterNode, report: Option<NodeReport>) -> wire::NodeStatus {
    let mut status = wire::NodeStatus {
        name: node.name.to_string(),
        region: node.region.to_string(),
        role: role(node.role).into(),
        ..wire::NodeStatus::default()
    };
    if let Some(report) = report {
        status.leader = Some(report.leader);
        status.applied_revision = Some(report.applied.0);
        status.mode = Some(mode(report.mode).into());
        status.staleness_ms = report.staleness.map(|s| u64::try_from(s.as_millis()).unwrap_or(u64::MAX));
        status.pid = Some(report.pid);
    }
    status
}

const fn role(role: NodeRole) -> wire::Role {
    match role {
        NodeRole::Voter => wire::Role::Voter,
        NodeRole::Learner => wire::Role::Learner,
        NodeRole::Witness => wire::Role::Witness,
    }
}

const fn mode(mode: Mode) -> wire::Mode {
    match mode {
        Mode::ReadWrite => wire::Mode::ReadWrite,
        Mode::ReadOnly => wire::Mode::ReadOnly,
    }
}

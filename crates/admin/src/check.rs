//! Whether all nodes hold the same state: equal revisions must have equal hashes.

use std::time::Duration;

use atoll_metadata::RegisterNode;
use atoll_proto::admin::v1 as wire;
use atoll_registry::MetadataGroup;
use atoll_types::Revision;
use futures::future::join_all;
use tokio::time::Instant;
use tonic::Status;

use crate::status::known_nodes;
use crate::{Nodes, StateProof};

/// How long the nodes may take to come to one revision.
const REVISION_WAIT: Duration = Duration::from_secs(10);
/// A hash is kept for a while only: under many writes a revision can be gone when the slowest node is asked.
const ATTEMPTS: usize = 5;

/// The hashes of all nodes at one revision; fails, naming them, when nodes do not answer.
pub(crate) async fn cluster_check(
    metadata: &dyn MetadataGroup,
    nodes: &dyn Nodes,
) -> Result<wire::ClusterCheckResponse, Status> {
    let mut missing = String::new();
    for _ in 0..ATTEMPTS {
        let revision = metadata
            .barrier(Instant::now() + REVISION_WAIT)
            .await
            .map_err(|e| Status::unavailable(format!("the nodes cannot be compared: {e}")))?;
        match at_revision(metadata, nodes, revision).await {
            Ok(check) => return Ok(check),
            Err(who) => missing = who,
        }
    }
    Err(Status::unavailable(format!("these nodes did not tell their state hash: {missing}; start them, or try again")))
}

async fn at_revision(
    metadata: &dyn MetadataGroup,
    nodes: &dyn Nodes,
    revision: Revision,
) -> Result<wire::ClusterCheckResponse, String> {
    let known = known_nodes(metadata, nodes);
    let reports = join_all(known.iter().map(|node| nodes.report(node, Some(revision), REVISION_WAIT))).await;
    let hashes: Vec<Option<u128>> = reports.into_iter().map(|r| r.and_then(|r| r.state_hash)).collect();
    let silent = known.iter().zip(&hashes).filter(|(_, hash)| hash.is_none()).map(|(node, _)| node.name.to_string());
    let silent: Vec<String> = silent.collect();
    if !silent.is_empty() {
        return Err(silent.join(", "));
    }
    let equal = hashes.windows(2).all(|pair| pair[0] == pair[1]);
    let nodes = known.iter().zip(hashes).map(|(node, hash)| node_hash(node, revision, hash.unwrap_or_default()));
    Ok(wire::ClusterCheckResponse { revision: revision.0, nodes: nodes.collect(), equal })
}

fn node_hash(node: &RegisterNode, revision: Revision, hash: u128) -> wire::NodeHash {
    wire::NodeHash { name: node.name.to_string(), revision: revision.0, state_hash: format!("{hash:032x}") }
}

/// In addition, every node computes its hash from its whole store: a difference is corruption at that node
/// (`DATA_LOSS`). That a node could not be checked is no proof of either (`UNAVAILABLE`).
pub(crate) async fn deep_check(metadata: &dyn MetadataGroup, nodes: &dyn Nodes) -> Result<(), Status> {
    let known = known_nodes(metadata, nodes);
    let proofs = join_all(known.iter().map(|node| nodes.prove_state_of(node))).await;
    let (mut corrupt, mut unchecked) = (Vec::new(), Vec::new());
    for (node, proof) in known.iter().zip(proofs) {
        match proof {
            Ok(proof) if proof.kept == proof.computed => {}
            Ok(proof) => corrupt.push(corruption(node, &proof)),
            Err(why) => unchecked.push(format!("{} could not be checked: {why}", node.name)),
        }
    }
    if !corrupt.is_empty() {
        corrupt.append(&mut unchecked);
        return Err(Status::data_loss(corrupt.join("; ")));
    }
    if unchecked.is_empty() { Ok(()) } else { Err(Status::unavailable(unchecked.join("; "))) }
}

fn corruption(node: &RegisterNode, proof: &StateProof) -> String {
    format!(
        "the state of {} at revision {} is corrupt: its hash is {:032x}, its content has {:032x}; replace the node",
        node.name, proof.revision, proof.kept, proof.computed
    )
}

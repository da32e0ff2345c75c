//! Other nodes: where they are, and what they say of themselves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_admin::{InitializeError, NodeReport, Nodes, StateProof};
use atoll_consensus::Group;
use atoll_http::PeerDirectory;
use atoll_metadata::{RegisterNode, read};
use atoll_proto::admin::v1 as wire;
use atoll_proto::admin::v1::admin_client::AdminClient;
use atoll_registry::{MetadataGroup, MetadataGroupExt};
use atoll_types::{NodeId, Revision};
use tokio::time::Instant;
use tonic::transport::Endpoint;

/// How long a peer may take to take a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long a peer may compute its state hash.
const PROOF_WAIT: Duration = Duration::from_secs(600);

/// Addresses of registered nodes.
pub(crate) struct Directory(pub(crate) Arc<dyn MetadataGroup>);

impl PeerDirectory for Directory {
    fn http_address(&self, node: NodeId) -> Option<String> {
        let nodes = self.0.read(|kv| read::nodes(kv)).ok()?;
        nodes.into_iter().find(|n| n.node == node).map(|n| n.http_address)
    }
}

/// The cluster's nodes, for administration.
pub(crate) struct ClusterNodes {
    pub(crate) group: Group,
    pub(crate) cluster: read::Cluster,
    pub(crate) declared: Vec<RegisterNode>,
}

#[async_trait]
impl Nodes for ClusterNodes {
    fn cluster(&self) -> read::Cluster {
        self.cluster
    }

    fn declared(&self) -> Vec<RegisterNode> {
        self.declared.clone()
    }

    async fn report(&self, node: &RegisterNode, hash_at: Option<Revision>, wait: Duration) -> Option<NodeReport> {
        let status = self.group.node_status(node.node, hash_at, Instant::now() + wait).await.ok()?;
        Some(NodeReport {
            leader: status.leader == Some(node.node),
            applied: status.applied,
            mode: super::group::mode(status.mode),
            staleness: status.staleness,
            pid: status.pid,
            state_hash: status.state_hash.map(|(_, hash)| hash),
        })
    }

    async fn initialize(&self) -> Result<(), InitializeError> {
        super::group::initialize(&self.group, &self.declared, self.cluster).await
    }

    async fn prove_state(&self) -> Result<StateProof, String> {
        let (revision, computed) = self.group.recompute_hash().await.map_err(|e| e.to_string())?;
        let kept = self.group.state_hash_at(revision);
        let kept = kept.ok_or_else(|| format!("the hash of revision {revision} is not kept any more; try again"))?;
        Ok(StateProof { revision, kept, computed })
    }

    async fn prove_state_of(&self, node: &RegisterNode) -> Result<StateProof, String> {
        let endpoint = Endpoint::from_shared(format!("http://{}", node.admin_address)).map_err(|e| e.to_string())?;
        let channel = endpoint.connect_timeout(CONNECT_WAIT).timeout(PROOF_WAIT).connect().await;
        let mut client = AdminClient::new(channel.map_err(|e| e.to_string())?);
        let answer = client.prove_state(wire::ProveStateRequest {}).await.map_err(|e| e.message().to_owned())?;
        let answer = answer.into_inner();
        let hash = |text: &str| u128::from_str_radix(text, 16).map_err(|e| format!("{text:?} is not a hash: {e}"));
        Ok(StateProof {
            revision: Revision(answer.revision),
            kept: hash(&answer.kept)?,
            computed: hash(&answer.computed)?,
        })
    }
}

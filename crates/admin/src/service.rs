//! The service itself: requests in, answers out.

use std::sync::Arc;
use std::time::Duration;

use atoll_metadata::read;
use atoll_proto::admin::v1 as wire;
use atoll_proto::admin::v1::admin_server::{Admin, AdminServer};
use atoll_registry::{MetadataGroup, MetadataGroupExt, RegistryError};
use atoll_replication::{LeaderClock, RegionLag, lag_report, pause, resume};
use atoll_types::RegionId;
use tonic::{Request, Response, Status};

use crate::check::{cluster_check, deep_check};
use crate::status::cluster_status;
use crate::{InitializeError, Nodes};

/// How long a change may take.
const CHANGE_WAIT: Duration = Duration::from_secs(10);

type Answer<T> = Result<Response<T>, Status>;

/// Administration of the cluster through one node.
pub struct AdminService {
    metadata: Arc<dyn MetadataGroup>,
    nodes: Arc<dyn Nodes>,
    clock: LeaderClock,
}

impl AdminService {
    /// A service to be mounted on the node's admin address.
    pub fn server(metadata: Arc<dyn MetadataGroup>, nodes: Arc<dyn Nodes>) -> AdminServer<Self> {
        AdminServer::new(Self { metadata, nodes, clock: LeaderClock::default() })
    }

    /// The region of a request, or all of them.
    fn regions(&self, region: &str) -> Result<Vec<RegionId>, Status> {
        let known = self.metadata.read(|kv| read::regions(kv)).map_err(|e| Status::internal(e.to_string()))?;
        let known: Vec<RegionId> = known.into_iter().map(|r| r.region).collect();
        if region.is_empty() {
            return Ok(known);
        }
        known.iter().find(|k| k.as_str() == region).map(|k| vec![k.clone()]).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(RegionId::as_str).collect();
            Status::not_found(format!("there is no region {region}; there are {}", names.join(", ")))
        })
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn cluster_status(&self, _: Request<wire::ClusterStatusRequest>) -> Answer<wire::ClusterStatusResponse> {
        Ok(Response::new(cluster_status(self.metadata.as_ref(), self.nodes.as_ref()).await))
    }

    async fn cluster_check(&self, ask: Request<wire::ClusterCheckRequest>) -> Answer<wire::ClusterCheckResponse> {
        if ask.into_inner().deep {
            deep_check(self.metadata.as_ref(), self.nodes.as_ref()).await?;
        }
        Ok(Response::new(cluster_check(self.metadata.as_ref(), self.nodes.as_ref()).await?))
    }

    async fn init_cluster(&self, _: Request<wire::InitClusterRequest>) -> Answer<wire::InitClusterResponse> {
        match self.nodes.initialize().await {
            Ok(()) => Ok(Response::new(wire::InitClusterResponse { cluster_id: self.nodes.cluster().id.to_string() })),
            Err(error @ InitializeError::Exists(_)) => Err(Status::already_exists(error.to_string())),
            Err(error @ InitializeError::Failed(_)) => Err(Status::unavailable(error.to_string())),
        }
    }

    async fn replication_status(
        &self,
        _: Request<wire::ReplicationStatusRequest>,
    ) -> Answer<wire::ReplicationStatusResponse> {
        let report = lag_report(&self.metadata, &self.clock).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(wire::ReplicationStatusResponse {
            revision: report.revision.0,
            staleness_ms: report.staleness.map(|s| u64::try_from(s.as_millis()).unwrap_or(u64::MAX)),
            regions: report.regions.into_iter().map(region_lag).collect(),
        }))
    }

    async fn set_replication_paused(
        &self,
        ask: Request<wire::SetReplicationPausedRequest>,
    ) -> Answer<wire::SetReplicationPausedResponse> {
        let ask = ask.into_inner();
        let regions = self.regions(&ask.region)?;
        let mut revision = 0;
        for region in &regions {
            let metadata = self.metadata.as_ref();
            let change = if ask.paused {
                pause(metadata, region.clone(), CHANGE_WAIT).await
            } else {
                resume(metadata, region.clone(), CHANGE_WAIT).await
            };
            revision = change.map_err(refused)?.0;
        }
        let regions = regions.iter().map(ToString::to_string).collect();
        Ok(Response::new(wire::SetReplicationPausedResponse { revision, regions }))
    }

    async fn knows_node(&self, ask: Request<wire::KnowsNodeRequest>) -> Answer<wire::KnowsNodeResponse> {
        let ask = ask.into_inner();
        let nodes = self.metadata.read(|kv| read::nodes(kv)).map_err(|e| Status::internal(e.to_string()))?;
        let same = ask.cluster_id == self.nodes.cluster().id.to_string();
        let known = same && nodes.iter().any(|node| node.node.0 == ask.node);
        Ok(Response::new(wire::KnowsNodeResponse { known }))
    }

    async fn prove_state(&self, _: Request<wire::ProveStateRequest>) -> Answer<wire::ProveStateResponse> {
        let proof = self.nodes.prove_state().await.map_err(Status::internal)?;
        Ok(Response::new(wire::ProveStateResponse {
            revision: proof.revision.0,
            kept: format!("{:032x}", proof.kept),
            computed: format!("{:032x}", proof.computed),
        }))
    }
}

fn refused(error: RegistryError) -> Status {
    match error {
        RegistryError::Rejected(why) => Status::failed_precondition(why.to_string()),
        other => Status::unavailable(other.to_string()),
    }
}

fn region_lag(lag: RegionLag) -> wire::RegionLag {
    let known = match (lag.known, lag.at_most) {
        (false, _) => wire::Known::AtLeast,
        (true, true) => wire::Known::AtMost,
        (true, false) => wire::Known::Exactly,
    };
    wire::RegionLag {
        region: lag.region.to_string(),
        known: known.into(),
        blobs: lag.blobs,
        bytes: lag.bytes,
        oldest_age_ms: lag.oldest_age_ms,
        paused: lag.paused,
    }
}

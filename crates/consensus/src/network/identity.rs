//! Cluster id and epoch on every call between nodes.

use atoll_types::ClusterId;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

const CLUSTER: &str = "atoll-cluster";
const EPOCH: &str = "atoll-epoch";

/// Which cluster a node belongs to: stamps every call that it makes.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    cluster: MetadataValue<Ascii>,
    epoch: MetadataValue<Ascii>,
}

impl Identity {
    pub(crate) fn new(cluster: ClusterId, epoch: u64) -> Self {
        let hex: String = cluster.to_string();
        // An id is hexadecimal digits, which any metadata value may hold.
        let cluster = MetadataValue::try_from(hex).unwrap_or_else(|_| MetadataValue::from_static("invalid"));
        Self { cluster, epoch: MetadataValue::from(epoch) }
    }

    fn matches(&self, metadata: &MetadataMap) -> bool {
        metadata.get(CLUSTER) == Some(&self.cluster) && metadata.get(EPOCH) == Some(&self.epoch)
    }
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(CLUSTER, self.cluster.clone());
        request.metadata_mut().insert(EPOCH, self.epoch.clone());
        Ok(request)
    }
}

/// Refuses calls of another cluster, of another epoch, or of neither.
#[derive(Clone, Debug)]
pub(crate) struct SameCluster(pub(crate) Identity);

impl Interceptor for SameCluster {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.0.matches(request.metadata()) {
            return Ok(request);
        }
        let theirs = |key| request.metadata().get(key).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
        Err(Status::failed_precondition(format!(
            "this node is of cluster {} epoch {}, the call is of cluster {} epoch {}; check the addresses of the peers",
            self.0.cluster.to_str().unwrap_or_default(),
            self.0.epoch.to_str().unwrap_or_default(),
            theirs(CLUSTER),
            theirs(EPOCH),
        )))
    }
}

//! What peers ask of this node's group: to propose for them when it leads, read indices, and how it is.

use std::time::Duration;

use atoll_metadata::Entry;
use atoll_proto::metadata::v1::metadata_server::Metadata;
use atoll_proto::metadata::v1::{
    ProposeRequest, ProposeResponse, ReadIndexRequest, ReadIndexResponse, Refusal, StatusRequest, StatusResponse,
    propose_response,
};
use atoll_types::Revision;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::barrier::read_index_here;
use crate::batcher::Answer;
use crate::group::Group;

/// No caller waits longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// The group's service.
pub(crate) struct MetadataService {
    pub(crate) group: Group,
}

fn deadline(timeout_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms).min(TIMEOUT_MAX)
}

#[tonic::async_trait]
impl Metadata for MetadataService {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let request = request.into_inner();
        let answer = match Entry::decode(&request.entry) {
            Ok(entry) => self.group.inner.propose_here(entry, deadline(request.timeout_ms)).await,
            Err(error) => Answer::refused_for_good(format!("the command cannot be read: {error}")),
        };
        Ok(Response::new(to_wire(answer)))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexResponse>, Status> {
        let deadline = deadline(request.into_inner().timeout_ms);
        let inner = &self.group.inner;
        match tokio::time::timeout_at(deadline, read_index_here(&inner.raft, &inner.leadership)).await {
            Ok(Ok(revision)) => Ok(Response::new(ReadIndexResponse { revision })),
            Ok(Err(why)) => Err(Status::unavailable(why)),
            Err(_) => Err(Status::deadline_exceeded("no quorum answered in time")),
        }
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let request = request.into_inner();
        let at = (request.hash_at != 0).then_some(Revision(request.hash_at));
        let status = self.group.status_at(at, deadline(request.timeout_ms)).await;
        Ok(Response::new(status.into_wire()))
    }
}

fn to_wire(answer: Answer) -> ProposeResponse {
    use propose_response::Result as Answered;
    let (result, index) = match answer {
        Answer::Applied { index, applied } => (Answered::Applied(applied), index),
        Answer::Refused { reason, leader, is_final } => {
            (Answered::Refused(Refusal { reason, leader: leader.unwrap_or(0), r#final: is_final }), 0)
        }
        Answer::Unknown(why) => (Answered::Unknown(why), 0),
    };
    ProposeResponse { result: Some(result), index }
}

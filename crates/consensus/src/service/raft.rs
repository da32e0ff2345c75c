//! What peers' Raft asks of this node.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_fault::planted;
use atoll_proto::raft::v1 as wire;
use atoll_proto::raft::v1::raft_server::Raft as RaftApi;
use atoll_storage::{LogStore, SnapshotReceiver, StateStore, StorageError};
use futures::{Stream, StreamExt, stream};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult, VoteRequest};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::network::{knows_callee, messages};
use crate::raft::types::Vote;
use crate::raft::{Raft, Types, codec, describe};

type Answer<T> = Result<Response<T>, Status>;

/// Raft's service.
pub(crate) struct RaftService {
    pub(crate) raft: Raft,
    pub(crate) state: Arc<StateStore>,
    pub(crate) log: Arc<LogStore>,
    /// Cancelled once this node is found to have lost its folder: it acknowledges nothing more.
    pub(crate) closed: CancellationToken,
    pub(crate) receiving: Receiving,
    /// A transfer on which nothing moves for so long is over.
    pub(crate) stall: Duration,
    /// Ends the streams, which would else keep a server that shuts down from ending.
    pub(crate) cancel: CancellationToken,
}

/// The transfer of a snapshot that is being received, or was.
#[derive(Debug, Default)]
pub(crate) struct Receiving(Mutex<Option<(Vote, CancellationToken)>>);

impl Receiving {
    /// One begins; cancelled when it has to give way.
    fn begin(&self, vote: Vote) -> CancellationToken {
        let token = CancellationToken::new();
        *self.0.lock() = Some((vote, token.clone()));
        token
    }

    /// Ends that of an earlier leader, whose host may be gone without a word: the connection would be waited for, and the
    /// new leader's snapshot behind it.
    fn give_way(&self, vote: &Vote) {
        if let Some((_, token)) = self.0.lock().take_if(|(running, _)| *running < *vote) {
            token.cancel();
        }
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("consensus has stopped at this node: {error}"))
}

fn refused(error: StorageError) -> Status {
    match error {
        error @ StorageError::ChunkRefused { .. } => Status::data_loss(error.to_string()),
        error => Status::unavailable(error.to_string()),
    }
}

#[tonic::async_trait]
impl RaftApi for RaftService {
    type StreamAppendStream = Pin<Box<dyn Stream<Item = Result<wire::AppendEntriesResponse, Status>> + Send>>;

    async fn append_entries(
        &self,
        request: Request<wire::AppendEntriesRequest>,
    ) -> Answer<wire::AppendEntriesResponse> {
        let request = request.into_inner();
        let previous = request.previous;
        let last = request.entries.last().and_then(|entry| entry.log_id).or(previous);
        let rpc = messages::append_of(request)?;
        let response = self.raft.append_entries(rpc).await.map_err(stopped)?;
        Ok(Response::new(messages::append_response_to_wire(response, previous, last)))
    }

    async fn stream_append(
        &self,
        request: Request<Streaming<wire::AppendEntriesRequest>>,
    ) -> Answer<Self::StreamAppendStream> {
        let requests = requests(request.into_inner()).take_until(self.ended());
        let answers = self.raft.stream_append(requests).take_until(self.ended());
        Ok(Response::new(Box::pin(answers.map(|answer| answer.map(to_wire).map_err(stopped)))))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Answer<wire::VoteResponse> {
        let rpc = self.vote_request(request)?;
        let response = self.raft.vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(messages::vote_response_to_wire(&response)))
    }

    async fn pre_vote(&self, request: Request<wire::VoteRequest>) -> Answer<wire::VoteResponse> {
        let rpc = self.vote_request(request)?;
        let response = self.raft.pre_vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(messages::vote_response_to_wire(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Answer<wire::TransferLeaderResponse> {
        let rpc = messages::transfer_request_of(request.into_inner())?;
        let response = self.raft.handle_transfer_leader(rpc).await.map_err(stopped)?;
        Ok(Response::new(messages::transfer_response_to_wire(&response)))
    }

    async fn begin_snapshot(
        &self,
        request: Request<wire::BeginSnapshotRequest>,
    ) -> Answer<wire::BeginSnapshotResponse> {
        let request = request.into_inner();
        let vote = codec::vote_of(request.vote)?;
        if let Some(higher) = self.higher_vote(vote) {
            return Ok(Response::new(wire::BeginSnapshotResponse { files: Vec::new(), higher_vote: Some(higher) }));
        }
        self.receiving.give_way(&vote);
        let receiver = self.receive(request.manifest).await?;
        let file =
            |p: atoll_storage::FileProgress| wire::FileProgress { name: p.name, received: p.received, size: p.size };
        let files = receiver.progress().into_iter().map(file).collect();
        Ok(Response::new(wire::BeginSnapshotResponse { files, higher_vote: None }))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Answer<wire::SendSnapshotResponse> {
        let mut chunks = request.into_inner();
        let gives_way = CancellationToken::new();
        let first = self.next(&mut chunks, &gives_way).await?.and_then(|chunk| chunk.start);
        let start = first.ok_or_else(|| Status::invalid_argument("the first chunk does not say what it is of"))?;
        let vote = codec::vote_of(start.vote)?;
        if let Some(higher) = self.higher_vote(vote) {
            return Ok(Response::new(wire::SendSnapshotResponse { vote: Some(higher), incomplete: Vec::new() }));
        }
        let mut receiver = self.receive(start.manifest).await?;
        let gives_way = self.receiving.begin(vote);
        while let Some(chunk) = self.next(&mut chunks, &gives_way).await? {
            receiver = write(receiver, chunk).await?;
        }
        self.install(receiver, vote).await.map(Response::new)
    }
}

impl RaftService {
    /// When no stream may go on.
    fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let (cancel, closed) = (self.cancel.clone(), self.closed.clone());
        async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = closed.cancelled() => {}
            }
        }
    }

    /// A candidate's request, unless this node must not vote: it remembers nothing, the group has gone on since it was
    /// made, and the candidate does not know that this node is new. It may have voted, or acknowledged what the
    /// candidate lacks, before its folder was emptied. A leader brings it up without its vote.
    fn vote_request(&self, request: Request<wire::VoteRequest>) -> Result<VoteRequest<Types>, Status> {
        let known = knows_callee(request.metadata());
        let rpc = messages::vote_request_of(request.into_inner())?;
        let has_history = rpc.last_log_id.as_ref().is_some_and(|last| last.index() > 0);
        if has_history && !known && self.remembers_nothing() && !planted!("fence_unchecked") {
            return Err(Status::failed_precondition(
                "this node's data folder is new and the candidate does not know it: it does not vote until it has \
                 heard of a leader",
            ));
        }
        Ok(rpc)
    }

    fn remembers_nothing(&self) -> bool {
        self.log.vote().is_none() && self.log.last_index().is_none() && self.state.revision() == 0
    }

    fn higher_vote(&self, vote: Vote) -> Option<wire::Vote> {
        let ours = self.raft.server_metrics().borrow_watched().vote;
        (ours > vote).then(|| codec::vote_to_wire(&ours))
    }

    async fn next(
        &self,
        chunks: &mut Streaming<wire::SnapshotChunk>,
        gives_way: &CancellationToken,
    ) -> Result<Option<wire::SnapshotChunk>, Status> {
        tokio::select! {
            chunk = chunks.message() => chunk,
            () = tokio::time::sleep(self.stall) => {
                Err(Status::deadline_exceeded("no chunk of the snapshot has come for too long"))
            }
            () = gives_way.cancelled() => Err(Status::cancelled("another leader sends its snapshot")),
            () = self.ended() => Err(Status::unavailable("the node is stopping")),
        }
    }

    async fn receive(&self, manifest: bytes::Bytes) -> Result<SnapshotReceiver, Status> {
        let state = self.state.clone();
        disk(move || state.receive(&manifest)).await?.map_err(refused)
    }

    async fn install(&self, mut receiver: SnapshotReceiver, vote: Vote) -> Result<wire::SendSnapshotResponse, Status> {
        let (receiver, finished) = disk(move || {
            let finished = receiver.finish();
            (receiver, finished)
        })
        .await?;
        // Another transfer may begin from here on.
        drop(receiver);
        let checkpoint = match finished {
            Ok(checkpoint) => checkpoint,
            Err(StorageError::SnapshotIncomplete(incomplete)) => {
                return Ok(wire::SendSnapshotResponse { vote: None, incomplete });
            }
            Err(error) => return Err(refused(error)),
        };
        let snapshot = describe(checkpoint.clone()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let installed = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        // Raft may have had no need of it: the log reaches as far by now, or another node leads.
        self.state.discard(&checkpoint);
        Ok(wire::SendSnapshotResponse { vote: Some(codec::vote_to_wire(&installed.vote)), incomplete: Vec::new() })
    }
}

fn to_wire(result: StreamAppendResult<Types>) -> wire::AppendEntriesResponse {
    messages::append_result_to_wire(result)
}

/// Requests until the stream ends, breaks, or makes no sense.
fn requests(
    requests: Streaming<wire::AppendEntriesRequest>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + 'static {
    stream::unfold(requests, |mut requests| async move {
        let request = requests.message().await.ok().flatten()?;
        match messages::append_of(request) {
            Ok(request) => Some((request, requests)),
            Err(error) => {
                tracing::warn!(%error, "a peer's log stream is refused");
                None
            }
        }
    })
}

async fn write(mut receiver: SnapshotReceiver, chunk: wire::SnapshotChunk) -> Result<SnapshotReceiver, Status> {
    disk(move || receiver.write_chunk(&chunk.file, chunk.offset, &chunk.data, chunk.crc).map(|()| receiver))
        .await?
        .map_err(refused)
}

/// Runs what blocks on a thread where it may.
async fn disk<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(call).await.map_err(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_gives_way_to_a_later_leader_alone() {
        let vote = |term| Vote::new_committed(term, 1);
        let receiving = Receiving::default();
        let running = receiving.begin(vote(2));
        receiving.give_way(&vote(1));
        receiving.give_way(&vote(2));
        assert!(!running.is_cancelled());
        receiving.give_way(&vote(3));
        assert!(running.is_cancelled());
        assert!(!receiving.begin(vote(3)).is_cancelled());
    }
}

//! Raft's calls to one peer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use atoll_proto::raft::v1 as wire;
use atoll_proto::raft::v1::raft_client::RaftClient;
use futures::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::identity::caller_is_lost;
use super::peers::{Lane, PeerChannel, Peers};
use super::{log_stream, messages, snapshot};
use crate::raft::types::{PeerNode, Snapshot, SnapshotData, Vote};
use crate::raft::{Types, codec};

/// Makes openraft's clients.
#[derive(Clone)]
pub(crate) struct Network {
    peers: Arc<Peers>,
    node: u64,
}

impl Network {
    pub(crate) fn new(peers: Arc<Peers>, node: u64) -> Self {
        Self { peers, node }
    }

    /// A client of one kind of traffic to a peer.
    pub(crate) fn client(&self, target: u64, node: &PeerNode, lane: Lane) -> Client {
        let link = Link { from: self.node, to: target };
        Client { peers: self.peers.clone(), link, address: node.grpc_address.clone(), lane }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerNode) -> Client {
        self.client(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &PeerNode) -> Client {
        self.client(target, node, Lane::Snapshot)
    }
}

/// Who calls whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    from: u64,
    to: u64,
}

impl Link {
    pub(super) fn timed_out(&self, action: RPCTypes, timeout: Duration) -> Timeout<Types> {
        Timeout { action, id: self.from, target: self.to, timeout }
    }
}

/// Raft's calls to one peer, over the connection of one kind of traffic.
pub(crate) struct Client {
    peers: Arc<Peers>,
    link: Link,
    address: String,
    lane: Lane,
}

type RpcResult<T> = Result<T, RPCError<Types>>;

impl Client {
    fn raft(&self, lane: Lane) -> Result<RaftClient<PeerChannel>, Unreachable<Types>> {
        let channel = self.peers.channel(self.link.to, &self.address, lane);
        Ok(RaftClient::new(channel.map_err(|e| Unreachable::new(&e))?))
    }

    /// Every call has a deadline of its own: a peer that is stopped keeps its connections open and never answers.
    async fn within<T>(
        &self,
        action: RPCTypes,
        timeout: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> RpcResult<T> {
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                if caller_is_lost(&status) {
                    self.peers.fence().close();
                }
                Err(unreachable(&status).into())
            }
            Err(_) => Err(self.link.timed_out(action, timeout).into()),
        }
    }
}

/// openraft waits a while before it tries again.
pub(super) fn unreachable(error: &(impl std::error::Error + 'static)) -> Unreachable<Types> {
    Unreachable::new(error)
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let mut raft = self.raft(self.lane)?;
        let call = raft.append_entries(messages::append_to_wire(&rpc));
        let response = self.within(RPCTypes::AppendEntries, option.hard_ttl(), call).await?;
        messages::append_response_of(response).map_err(|e| unreachable(&e).into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if self.lane == Lane::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let (requests, flow) = log_stream::requests(input);
            let mut requests = Box::pin(requests);
            // openraft waits its backoff in this stream: asked before the connection is made, or a peer that refuses
            // connections is called again and again without a pause.
            let Some(first) = requests.next().await else { return Ok(stream::empty().boxed()) };
            let requests = stream::iter([first]).chain(requests);
            let mut raft = self.raft(self.lane)?;
            let timing = self.peers.timing();
            let answers =
                self.within(RPCTypes::AppendEntries, timing.election_min, raft.stream_append(requests)).await?;
            let stream: BoxStream<'s, _> = Box::pin(log_stream::answers(answers, flow, self.link, timing.log_stall));
            Ok(stream)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        let mut raft = self.raft(Lane::Heartbeat)?;
        let call = raft.vote(messages::vote_request_to_wire(&rpc));
        let response = self.within(RPCTypes::Vote, option.soft_ttl(), call).await?;
        messages::vote_response_of(response).map_err(|e| unreachable(&e).into())
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        let mut raft = self.raft(Lane::Heartbeat)?;
        let call = raft.pre_vote(messages::vote_request_to_wire(&rpc));
        let response = self.within(RPCTypes::Vote, option.soft_ttl(), call).await?;
        messages::vote_response_of(response).map_err(|e| unreachable(&e).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let raft = self.raft(Lane::Snapshot)?;
        let sending = snapshot::send(raft, vote, snapshot.snapshot, self.link, option.hard_ttl());
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = sending => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        let mut raft = self.raft(Lane::Heartbeat)?;
        let request = wire::TransferLeaderRequest {
            from: Some(codec::vote_to_wire(rpc.from_leader())),
            to: *rpc.to_node_id(),
            last: rpc.last_log_id().map(codec::log_id_to_wire),
        };
        let response = self.within(RPCTypes::TransferLeader, option.soft_ttl(), raft.transfer_leader(request)).await?;
        messages::transfer_response_of(response, &rpc).map_err(|e| unreachable(&e).into())
    }
}

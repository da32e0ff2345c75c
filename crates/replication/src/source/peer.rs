//! One node of another region: its channel, how near it is, whether it answered lately.

use std::future::Future;
use std::time::Duration;

use atoll_proto::replication::ClusterIdentity;
use atoll_proto::replication::v1::blobs_client::BlobsClient;
use atoll_proto::replication::v1::{Block, FetchRequest, PingRequest};
use atoll_types::{NodeId, RegionId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::connector::{CountingConnector, Received};
use crate::PeerOptions;

/// Weight of the newest measurement in the moving average of round trips: one in `RTT_WEIGHT`.
const RTT_WEIGHT: u32 = 4;
/// What must come from a peer for it to count as alive: more than the frames that keep a connection open.
const LIVE_BYTES_MIN: u64 = 256;
/// Longest wait for one answer or block, however much else comes from the peer meanwhile.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// HTTP/2 frames that hold a whole block and its header.
const FRAME_BYTES: u32 = 512 << 10;

/// A node of another region.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) region: RegionId,
    pub(crate) address: String,
    client: BlobsClient<Channel>,
    state: Mutex<PeerState>,
    bytes_per_s: Option<u64>,
    received: Received,
}

#[derive(Default)]
struct PeerState {
    round_trip: Option<Duration>,
    failed_at: Option<Instant>,
    /// When the link's next byte may come, for a link with a limit.
    free_at: Option<Instant>,
}

impl Peer {
    /// A channel that connects when it is first used, and again whenever that is needed.
    pub(crate) fn new(
        node: NodeId,
        region: RegionId,
        address: &str,
        options: &PeerOptions,
    ) -> Result<Self, tonic::transport::Error> {
        let received = Received::default();
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .max_frame_size(FRAME_BYTES)
            .connect_with_connector_lazy(CountingConnector::new(received.clone()));
        let state = PeerState { round_trip: options.round_trips.get(&region).copied(), ..PeerState::default() };
        Ok(Self {
            node,
            region,
            address: address.to_owned(),
            client: BlobsClient::new(channel),
            state: Mutex::new(state),
            bytes_per_s: options.link_bytes_per_s,
            received,
        })
    }

    /// Asks for blocks.
    pub(crate) async fn fetch(&self, request: FetchRequest) -> Result<Streaming<Block>, Status> {
        Ok(self.client.clone().fetch(request).await?.into_inner())
    }

    /// Measures the way; a failure counts against the peer.
    pub(crate) async fn ping(&self, cluster: ClusterIdentity, limit: Duration) {
        let start = Instant::now();
        let request = PingRequest { cluster: Some(cluster.into()) };
        match timeout(limit, self.client.clone().ping(request)).await {
            Ok(Ok(_)) => self.measured(start.elapsed()),
            Ok(Err(_)) | Err(_) => self.failed(),
        }
    }

    /// Notes that the peer answered.
    pub(crate) fn answered(&self) {
        self.state.lock().failed_at = None;
    }

    /// Notes how long the way there and back took.
    fn measured(&self, after: Duration) {
        let mut state = self.state.lock();
        state.failed_at = None;
        state.round_trip = Some(match state.round_trip {
            Some(before) => (before * (RTT_WEIGHT - 1) + after) / RTT_WEIGHT,
            None => after,
        });
    }

    /// Notes that the peer did not answer, or tore a stream.
    pub(crate) fn failed(&self) {
        self.state.lock().failed_at = Some(Instant::now());
    }

    /// By what sources are ordered: those that failed lately last, then the nearest first; unknown distance is far.
    pub(crate) fn rank(&self, unhealthy_for: Duration) -> (bool, Duration, NodeId) {
        let state = self.state.lock();
        let unhealthy = state.failed_at.is_some_and(|at| at.elapsed() < unhealthy_for);
        (unhealthy, state.round_trip.unwrap_or(Duration::MAX), self.node)
    }

    /// Waits for something from the peer, as long as anything at all comes from it within each `silence`: over a slow
    /// link that many share, it may take long. `None` when nothing came, or when it took [`PATIENCE_MAX`].
    pub(crate) async fn while_alive<F: Future>(&self, silence: Duration, wait: F) -> Option<F::Output> {
        let (mut wait, until) = (std::pin::pin!(wait), Instant::now() + PATIENCE_MAX);
        while Instant::now() < until {
            let before = self.received.bytes();
            match timeout(silence, &mut wait).await {
                Ok(done) => return Some(done),
                Err(_) if self.received.bytes() - before < LIVE_BYTES_MIN => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Waits until the link's limit allows so many bytes.
    pub(crate) async fn pace(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_s else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let due = {
            let mut state = self.state.lock();
            let now = Instant::now();
            let from = state.free_at.unwrap_or(now).max(now);
            state.free_at = Some(from + cost);
            from
        };
        sleep_until(due).await;
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} in {} ({})", self.node, self.region, self.address)
    }
}

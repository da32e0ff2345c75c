//! One node of another region: the ways to it, how near it is, whether it answered lately.

use std::time::Duration;

use atoll_proto::replication::ClusterIdentity;
use atoll_proto::replication::v1::{Block, FetchRequest, PingRequest};
use atoll_types::{NodeId, RegionId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::purpose::Purpose;
use super::way::{Way, Windows};
use crate::PeerOptions;

/// Weight of the newest measurement in the moving average of round trips: one in `RTT_WEIGHT`.
const RTT_WEIGHT: u32 = 4;
/// A node of another region.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) region: RegionId,
    pub(crate) address: String,
    /// For what is written down as fast as it comes.
    shared: Way,
    /// For what waits for clients, so that it holds up nothing else.
    direct: Way,
    state: Mutex<PeerState>,
    bytes_per_s: Option<u64>,
}

#[derive(Default)]
struct PeerState {
    round_trip: Option<Duration>,
    failed_at: Option<Instant>,
    /// When the link's next byte may come, for a link with a limit.
    free_at: Option<Instant>,
}

impl Peer {
    /// Nothing is connected yet.
    pub(crate) fn new(
        node: NodeId,
        region: RegionId,
        address: &str,
        options: &PeerOptions,
    ) -> Result<Self, tonic::transport::Error> {
        let state = PeerState { round_trip: options.round_trips.get(&region).copied(), ..PeerState::default() };
        Ok(Self {
            node,
            region,
            address: address.to_owned(),
            shared: Way::new(address, options, Windows::shared(options))?,
            direct: Way::new(address, options, Windows::direct(options))?,
            state: Mutex::new(state),
            bytes_per_s: options.link_bytes_per_s,
        })
    }

    /// The connection for a purpose.
    pub(super) fn way(&self, purpose: Purpose) -> &Way {
        match purpose {
            Purpose::Background | Purpose::Waited => &self.shared,
            Purpose::Direct => &self.direct,
        }
    }

    /// Asks for blocks.
    pub(super) async fn fetch(&self, request: FetchRequest, purpose: Purpose) -> Result<Streaming<Block>, Status> {
        Ok(self.way(purpose).client().fetch(request).await?.into_inner())
    }

    /// Measures the way; a failure counts against the peer.
    pub(crate) async fn ping(&self, cluster: ClusterIdentity, limit: Duration) {
        let start = Instant::now();
        let request = PingRequest { cluster: Some(cluster.into()) };
        match timeout(limit, self.shared.client().ping(request)).await {
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

//! Connections to peers: one for each kind of traffic, so that none waits behind another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use atoll_types::NodeId;
use parking_lot::Mutex;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};

use super::identity::{Caller, Identity};
use crate::fence::Fence;
use crate::options::{GroupOptions, Timing};

/// What a long fat link needs to be filled by one stream, in bytes.
const WINDOW_BYTES: u32 = 8 << 20;
/// Most calls of a peer at once on one connection; it holds back what is more.
const STREAMS_MAX: u32 = 1024;
/// Calls that a peer may have begun and reset before they were taken (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Most bytes of a call's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Log entries.
    Log,
    /// Heartbeats, votes and leader transfers.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// Writes forwarded to the leader.
    Forward,
    /// Read barriers and status: what readers wait for is not behind writes.
    Read,
}

/// A connection that tells who calls whom.
pub(crate) type PeerChannel = InterceptedService<Channel, Caller>;

/// Connections to peers, made when they are needed and shared by all who need them.
#[derive(Debug)]
pub(crate) struct Peers {
    identity: Identity,
    fence: Arc<Fence>,
    timing: Timing,
    addresses: BTreeMap<NodeId, String>,
    channels: Mutex<HashMap<(u64, Lane), (String, PeerChannel)>>,
}

impl Peers {
    pub(crate) fn new(options: &GroupOptions, fence: Arc<Fence>) -> Self {
        Self {
            identity: Identity::new(options.cluster, options.epoch),
            fence,
            timing: options.timing,
            addresses: options.peer_addresses.clone(),
            channels: Mutex::default(),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// A connection to a peer at an address, unless the options name another. It connects when it is used.
    pub(crate) fn channel(&self, node: u64, address: &str, lane: Lane) -> Result<PeerChannel, tonic::transport::Error> {
        let address = self.addresses.get(&NodeId(node)).map_or(address, String::as_str);
        let mut channels = self.channels.lock();
        if let Some((known, channel)) = channels.get(&(node, lane)).filter(|(known, _)| known == address) {
            debug_assert_eq!(known, address);
            return Ok(channel.clone());
        }
        let channel = InterceptedService::new(self.endpoint(address, lane)?.connect_lazy(), self.caller(node));
        channels.insert((node, lane), (address.to_owned(), channel.clone()));
        Ok(channel)
    }

    fn caller(&self, to: u64) -> Caller {
        Caller { identity: self.identity.clone(), fence: self.fence.clone(), to: NodeId(to) }
    }

    fn endpoint(&self, address: &str, lane: Lane) -> Result<Endpoint, tonic::transport::Error> {
        // What lies in the socket's buffer delays the answer to a ping: lanes with bulk on them are given longer.
        let ping_timeout = match lane {
            Lane::Heartbeat | Lane::Forward | Lane::Read => self.timing.election_max * 2,
            Lane::Log | Lane::Snapshot => self.timing.log_stall,
        };
        Ok(Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(self.timing.election_min)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(self.timing.election_max)
            .keep_alive_timeout(ping_timeout)
            .keep_alive_while_idle(true))
    }
}

/// A gRPC server as the group's services need it: windows for long links, and peers that went silent are noticed.
pub fn grpc_server(timing: &Timing) -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(timing.election_max))
        .http2_keepalive_timeout(Some(timing.log_stall.max(Duration::from_secs(1))))
}

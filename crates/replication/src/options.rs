//! Who this node is, and the bounds of what it does for replication.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_proto::replication::ClusterIdentity;
use atoll_registry::Room;
use atoll_types::{NodeId, RegionId, StoreId};

use crate::{Dial, Tcp};

/// The node that fetches and serves.
#[derive(Clone, Debug)]
pub struct LocalNode {
    /// Its number.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// Its region's store, whose copies it records.
    pub store: StoreId,
    /// Its cluster, sent with and checked on every RPC.
    pub cluster: ClusterIdentity,
}

/// How to reach other regions.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Longest wait for a TCP connection.
    pub connect_timeout: Duration,
    /// Longest silence of a source that is to say that it has a blob, on the first attempt; later attempts wait longer.
    /// A source that sends anything at all is not silent.
    pub answer_timeout: Duration,
    /// Longest silence of a source in mid-stream, on the first attempt; later attempts wait longer.
    pub stall_timeout: Duration,
    /// How long the nearest source may take before the next one is asked as well.
    pub hedge_after: Duration,
    /// How long a source that failed is asked last.
    pub unhealthy_for: Duration,
    /// How often the way to each peer is measured.
    pub ping_interval: Duration,
    /// HTTP/2 window of each stream, in bytes: what may be under way, and is lost when a stream is given up.
    pub stream_window_bytes: u32,
    /// HTTP/2 window of each connection, in bytes.
    pub connection_window_bytes: u32,
    /// Most streams at once, from all peers, that go to one client each and are as slow as that client is. They have a
    /// connection of their own, whose window holds the windows of all of them: none can hold up another one.
    pub direct_streams_max: usize,
    /// HTTP/2 window of each of these, in bytes: what a client that takes nothing may hold.
    pub direct_window_bytes: u32,
    /// Most bytes in a second from each peer; `None` for no limit.
    pub link_bytes_per_s: Option<u64>,
    /// Round-trip times to regions as an operator knows them; measured ones take their place.
    pub round_trips: HashMap<RegionId, Duration>,
    /// How connections are made.
    pub dial: Arc<dyn Dial>,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_millis(1_500),
            stall_timeout: Duration::from_secs(5),
            hedge_after: Duration::from_millis(400),
            unhealthy_for: Duration::from_secs(5),
            ping_interval: Duration::from_secs(2),
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 16 << 20,
            direct_streams_max: 32,
            direct_window_bytes: 1 << 20,
            link_bytes_per_s: None,
            round_trips: HashMap::new(),
            dial: Arc::new(Tcp),
        }
    }
}

/// Bounds of reading through, and of the fetches that it shares with the fetcher.
#[derive(Clone, Debug)]
pub struct ReadThroughOptions {
    /// A folder of this node's own for what has arrived of large blobs. Files are unlinked as they are made.
    pub spool: PathBuf,
    /// Most bytes of blobs that are spooled at once; beyond it, blobs are streamed without being shared.
    pub spool_bytes_max: u64,
    /// Most bytes of small blobs that are held in memory at once.
    pub memory_bytes_max: u64,
    /// Most blobs that are shared at once; beyond it, idle ones go, and where none is idle, blobs are streamed without
    /// being shared.
    pub blobs_max: usize,
    /// Most streams from other regions at once, for all blobs that are shared. Half of them are left to what a client
    /// waits for.
    pub streams_max: usize,
    /// Most streams for one blob.
    pub streams_per_blob_max: usize,
    /// How far a blob that is not to be kept is fetched ahead of its readers, in bytes.
    pub read_ahead_bytes: u64,
    /// How long a client of a blob that is not shared may wait for a stream; beyond it,
    /// [`atoll_registry::ReadThroughError::Busy`]. More than `park_after`: whoever takes nothing makes room first.
    pub stream_wait: Duration,
    /// How long such a client may take nothing before its stream is given to others; it gets another one when it goes
    /// on.
    pub park_after: Duration,
    /// How long what has arrived is kept for the next reader when the last one has left.
    pub linger: Duration,
    /// Whether the node's disks have room: without, nothing is fetched for the region's own sake, nothing is kept, and
    /// large blobs are streamed without being shared.
    pub room: Room,
}

impl ReadThroughOptions {
    /// The defaults, with a spool folder.
    pub fn new(spool: PathBuf) -> Self {
        Self {
            spool,
            spool_bytes_max: 16 << 30,
            memory_bytes_max: 32 << 20,
            blobs_max: 256,
            streams_max: 32,
            streams_per_blob_max: 4,
            read_ahead_bytes: 8 << 20,
            stream_wait: Duration::from_secs(15),
            park_after: Duration::from_secs(10),
            linger: Duration::from_secs(10),
            room: Room::default(),
        }
    }
}

/// Bounds of the fetcher.
#[derive(Clone, Debug)]
pub struct FetcherOptions {
    /// Blobs that are fetched at once.
    pub concurrency: usize,
    /// Of these, how many may be large, so that small blobs never wait behind large ones alone.
    pub large_max: usize,
    /// What a large blob has, in bytes.
    pub large_bytes: u64,
    /// How long the region's lease is asked for. It is renewed at every third of it.
    pub lease_ttl: Duration,
    /// How often state is looked at when nothing wakes the fetcher.
    pub tick: Duration,
    /// The first wait before a blob that could not be fetched is tried again; it doubles with each failure.
    pub backoff_min: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// Most copies that are recorded in one command.
    pub batch_max: usize,
    /// How long a batch waits for more.
    pub batch_wait: Duration,
}

impl Default for FetcherOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            large_max: 4,
            large_bytes: 32 << 20,
            lease_ttl: Duration::from_secs(10),
            tick: Duration::from_secs(1),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(30),
            batch_max: 64,
            batch_wait: Duration::from_millis(5),
        }
    }
}

//! How the use cases are configured, and what a caller may ask of one call.

use std::time::Duration;

use atoll_types::{NodeId, RegionId, RequestId, Revision, StoreId};
use tokio::time::Instant;

use crate::Room;

/// How a registry is set up.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The node's region.
    pub region: RegionId,
    /// The node.
    pub node: NodeId,
    /// The region's object store.
    pub store: StoreId,
    /// How old the view may be for reads by tag, lists and referrers that ask for nothing more.
    pub max_staleness: Duration,
    /// By prefix of a repository's name, how current its reads by tag, lists and referrers are. The longest counts.
    pub tag_reads: Vec<(String, Consistency)>,
    /// Most upload sessions that are open at once at this node.
    pub uploads_max: usize,
    /// For how long a session may be idle before it ends.
    pub upload_idle: Duration,
    /// The grace period of condemned links, in leader time: in its second half, clients are told that the blob is not
    /// there, so that they upload it again. Links must not be dropped before its end.
    pub link_grace: Duration,
    /// Whether the node's disks have room for what is pushed.
    pub room: Room,
    /// Bytes of memory for the block checksums of objects that are read often.
    pub checksum_cache_bytes: u64,
}

impl RegistryConfig {
    /// The bound of staleness where none is configured.
    pub const MAX_STALENESS: Duration = Duration::from_secs(1);
    /// The bound of open sessions where none is configured: one that waits for its next request takes a few KiB of
    /// memory and no descriptor.
    pub const UPLOADS_MAX: usize = 10_000;
    /// The idle time of sessions where none is configured.
    pub const UPLOAD_IDLE: Duration = Duration::from_secs(3_600);

    /// The grace period of condemned links where none is configured. No push may take longer than half of it.
    pub const LINK_GRACE: Duration = Duration::from_secs(24 * 3_600);

    /// With the defaults for all that has one.
    pub fn new(region: RegionId, node: NodeId, store: StoreId) -> Self {
        Self {
            region,
            node,
            store,
            max_staleness: Self::MAX_STALENESS,
            tag_reads: Vec::new(),
            uploads_max: Self::UPLOADS_MAX,
            upload_idle: Self::UPLOAD_IDLE,
            link_grace: Self::LINK_GRACE,
            room: Room::default(),
            checksum_cache_bytes: 32 << 20,
        }
    }
}

/// How current an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// As configured: within the bound of staleness.
    #[default]
    Default,
    /// All that was acknowledged anywhere before the request.
    Linearizable,
}

/// What a read asks for.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// How current the answer must be.
    pub consistency: Consistency,
    /// The answer must show this revision.
    pub min_revision: Option<Revision>,
    /// Until when to answer.
    pub deadline: Instant,
}

/// What a write brings along.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// The client's own request id, with the revision that it had seen: the write may have been tried before.
    pub request: Option<(Revision, RequestId)>,
    /// From where the request came, for the audit trail.
    pub client_address: String,
    /// Until when to answer.
    pub deadline: Instant,
}

//! How a node takes part in the group.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atoll_storage::Resources;
use atoll_types::{ClusterId, NodeId, NodeName, RegionId};

use crate::clock::{Clock, SystemClock};

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, never used twice.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its region.
    pub region: RegionId,
    /// Where its gRPC listens, `host:port`.
    pub grpc_address: String,
}

/// How fast nodes expect to hear from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard from, and how long it waits for an answer. Over twice the longest round trip.
    pub heartbeat: Duration,
    /// Shortest time without a leader before a node stands for election.
    pub election_min: Duration,
    /// Longest such time.
    pub election_max: Duration,
    /// A stream of log entries on which nothing moves for so long is torn down. A message of entries must get through
    /// the slowest link in that time.
    pub log_stall: Duration,
}

impl Timing {
    /// All nodes on one machine.
    pub const LOCAL: Self = Self {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1_000),
        log_stall: Duration::from_secs(10),
    };
    /// Nodes in regions of their own.
    pub const REGIONS: Self = Self {
        heartbeat: Duration::from_millis(750),
        election_min: Duration::from_secs(3),
        election_max: Duration::from_secs(6),
        log_stall: Duration::from_secs(150),
    };

    /// A node that has not proved for so long that it reaches a quorum is read-only: an ordinary election is ridden
    /// out.
    pub fn quorum_window(&self) -> Duration {
        self.election_max * 2
    }

    /// For so long after a quorum was last heard openraft takes its leader to lead, and a follower takes part in no
    /// election.
    pub(crate) fn leader_lease(&self) -> Duration {
        self.election_max / 2
    }

    /// How often a node proves it: often enough for a staleness bound of 1 s.
    pub fn barrier_interval(&self) -> Duration {
        (self.election_min / 4).min(Duration::from_millis(500))
    }
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries that are kept below the newest snapshot: who was away for less catches up from the log.
    pub entries: u64,
    /// The log's bound in bytes; above it less is kept.
    pub bytes: u64,
    /// A snapshot is made after so many entries.
    pub snapshot_every: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: 4 << 30, snapshot_every: 100_000 }
    }
}

/// Called once when the node cannot go on: it must end the process. The text says why.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a node takes part in the group.
#[derive(Clone)]
pub struct GroupOptions {
    /// The cluster; on every call between nodes.
    pub cluster: ClusterId,
    /// Its epoch; on every call between nodes.
    pub epoch: u64,
    /// This node.
    pub member: Member,
    /// How fast nodes expect to hear from each other. The same at every node.
    pub timing: Timing,
    /// How much of the log is kept.
    pub retention: Retention,
    /// Addresses that replace those in the membership, `host:port`: through a proxy, or for a peer that has moved.
    pub peer_addresses: BTreeMap<NodeId, String>,
    /// The lowest feature level that can apply this node's commands.
    pub feature_level: u32,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Memory of the databases.
    pub resources: Resources,
    /// Must end the process.
    pub on_fatal: OnFatal,
}

impl GroupOptions {
    /// Options with everything but the identity at its default.
    pub fn new(cluster: ClusterId, epoch: u64, member: Member, on_fatal: OnFatal) -> Self {
        Self {
            cluster,
            epoch,
            member,
            timing: Timing::REGIONS,
            retention: Retention::default(),
            peer_addresses: BTreeMap::new(),
            feature_level: 1,
            clock: Arc::new(SystemClock::default()),
            resources: Resources::default(),
            on_fatal,
        }
    }
}

impl fmt::Debug for GroupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupOptions")
            .field("cluster", &self.cluster)
            .field("epoch", &self.epoch)
            .field("member", &self.member)
            .field("timing", &self.timing)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

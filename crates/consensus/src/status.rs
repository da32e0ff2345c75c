//! How a node is.

use std::time::Duration;

use atoll_proto::metadata::v1::StatusResponse;
use atoll_types::{NodeId, Revision};

use crate::pulse::Mode;

/// How a node is, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The newest revision that it has applied.
    pub applied: Revision,
    /// Highest index of its log.
    pub last_log: Revision,
    /// Lowest index that is still in its log.
    pub first_log: Revision,
    /// Raft's term.
    pub term: u64,
    /// The node that it takes for the leader.
    pub leader: Option<NodeId>,
    /// Its mode.
    pub mode: Mode,
    /// How old its view may be; `None` is unknown.
    pub staleness: Option<Duration>,
    /// Its process.
    pub pid: u32,
    /// A revision and the state hash there; `None` when the revision that was asked for is not applied, or its hash is
    /// not kept any more.
    pub state_hash: Option<(Revision, u128)>,
    /// The highest feature level that it can apply.
    pub feature_level: u32,
}

impl NodeStatus {
    pub(crate) fn into_wire(self) -> StatusResponse {
        StatusResponse {
            node: self.node.0,
            name: self.name,
            region: self.region,
            applied: self.applied.0,
            term: self.term,
            leader: self.leader.map_or(0, |leader| leader.0),
            read_write: self.mode == Mode::ReadWrite,
            staleness_ms: self.staleness.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            pid: self.pid,
            hash_revision: self.state_hash.map_or(0, |(revision, _)| revision.0),
            state_hash: self.state_hash.map(|(_, hash)| hash.to_be_bytes().to_vec()).unwrap_or_default().into(),
            feature_level: self.feature_level,
            last_log: self.last_log.0,
            first_log: self.first_log.0,
        }
    }

    pub(crate) fn from_wire(wire: StatusResponse) -> Self {
        let hash = <[u8; 16]>::try_from(wire.state_hash.as_ref()).map(u128::from_be_bytes).ok();
        Self {
            node: NodeId(wire.node),
            name: wire.name,
            region: wire.region,
            applied: Revision(wire.applied),
            last_log: Revision(wire.last_log),
            first_log: Revision(wire.first_log),
            term: wire.term,
            leader: (wire.leader != 0).then_some(NodeId(wire.leader)),
            mode: if wire.read_write { Mode::ReadWrite } else { Mode::ReadOnly },
            staleness: wire.staleness_ms.map(Duration::from_millis),
            pid: wire.pid,
            state_hash: hash.map(|hash| (Revision(wire.hash_revision), hash)),
            feature_level: wire.feature_level,
        }
    }
}

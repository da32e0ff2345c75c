//! Why the group did not do what it was asked.

use atoll_storage::StorageError;
use atoll_types::{NodeId, Revision};

/// Why a write has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was provably never proposed.
    #[error("nothing was written: {0}")]
    NotProposed(String),
    /// It may have been written or not, or may yet be.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
}

/// Why a barrier did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// No quorum within the deadline.
    #[error("no quorum is in reach")]
    NoQuorum,
    /// The revision was not applied here within the deadline.
    #[error("revision {0} is not applied here yet")]
    Behind(Revision),
}

/// Why the group did not start, or could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The options do not fit together.
    #[error("the consensus settings are not valid: {0}")]
    Options(String),
    /// Raft has stopped: the process must end.
    #[error("consensus has stopped: {0}; the process must end")]
    Stopped(String),
    /// The group refuses.
    #[error("{0}")]
    Refused(String),
    /// This node does not lead.
    #[error("this node does not lead the group; ask {}", leader.map_or("again when there is a leader".to_owned(), |n| format!("node {n}")))]
    NotLeader {
        /// Who does, where it is known.
        leader: Option<NodeId>,
    },
    /// A peer did not answer.
    #[error("node {node} does not answer: {why}")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// Why not.
        why: String,
    },
    /// It was not so within the deadline.
    #[error("{0} within the deadline")]
    Deadline(String),
}

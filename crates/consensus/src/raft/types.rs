//! What openraft is told of our types.

use std::fmt;
use std::sync::Arc;

use atoll_storage::Checkpoint;
use bytes::Bytes;
use openraft::impls::leader_id_std;

use super::state::StateMachine;

openraft::declare_raft_types!(
    /// The metadata group's types. At most one leader in a term.
    pub(crate) Types:
        D = EncodedEntry,
        R = EncodedApplied,
        NodeId = u64,
        Node = PeerNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

/// The node's Raft.
pub(crate) type Raft = openraft::Raft<Types, StateMachine>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, PeerNode>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;
/// A snapshot's bytes: files on this disk.
pub(crate) type SnapshotData = Arc<Checkpoint>;

/// An encoded `atoll_metadata::Entry`.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct EncodedEntry(#[serde(with = "as_bytes")] pub(crate) Bytes);

impl fmt::Debug for EncodedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An encoded `atoll_metadata::Applied`; empty for what is not a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct EncodedApplied(#[serde(with = "as_bytes")] pub(crate) Bytes);

/// A member as it stands in the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PeerNode {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) grpc_address: String,
}

/// openraft's `serde` feature asks for it; nothing is ever written in this form.
mod as_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Into::into)
    }
}

//! The wire: generated code for `proto/atoll/*/v1`, and conversions into domain types, validated on receipt.
//!
//! Architecture invariant: knows `types` and nothing else of Atoll. A field, once landed, keeps its number and meaning.

/// Raft between nodes: log, votes, snapshots.
pub mod raft {
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("atoll.raft.v1");
    }
}
/// Writes forwarded to the leader, and read barriers.
pub mod metadata {
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("atoll.metadata.v1");
    }
}
pub mod replication;
/// Administration.
pub mod admin {
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("atoll.admin.v1");
    }
}

//! What a node keeps on its disk for the metadata group: the Raft log, the replicated state, snapshots of it, and the
//! marker that says whose folder it is.
//!
//! Architecture invariant: knows `metadata`'s key-value traits and nothing of openraft, tokio or gRPC. What Raft hands
//! in (votes, log ids, memberships, entries) is opaque bytes here; `consensus` adapts this crate to openraft's traits.
//! Every call may block on the disk: async callers wrap what they call.

#[cfg(test)]
mod damage_tests;
mod durable;
mod error;
mod folder;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod kill_tests;
mod log;
mod snapshot;
mod state;
#[cfg(test)]
mod testing;
mod tuning;

pub use error::StorageError;
pub use folder::{DataFolder, FolderIdentity, Marker};
pub use log::{LogDone, LogEntry, LogStats, LogStore};
pub use snapshot::{Checkpoint, Chunk, FileProgress, ManifestFile, SnapshotManifest, SnapshotReceiver};
pub use state::{Applied, BatchKv, StateBatch, StateStats, StateStore, StateView};
pub use tuning::Resources;

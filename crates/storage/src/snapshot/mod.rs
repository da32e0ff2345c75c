//! Snapshots: checkpoints of the state on the disk, and how they travel.

mod checkpoint;
mod manifest;
mod receiver;
mod store;

#[cfg(test)]
pub(crate) mod tests;

pub use checkpoint::{Checkpoint, Chunk};
pub use manifest::{ManifestFile, SnapshotManifest};
pub use receiver::{FileProgress, SnapshotReceiver};
pub(crate) use store::SnapshotStore;

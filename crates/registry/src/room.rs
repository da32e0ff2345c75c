//! Whether the node's disks have room for what is pushed and fetched.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A disk has too little room for more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {} has {} MiB free, and takes more again above {} MiB: free some there, or push to another region",
    folder.display(), free_bytes >> 20, needed_bytes >> 20
)]
pub struct NoRoom {
    /// A folder on that disk.
    pub folder: PathBuf,
    /// What it has free, in bytes.
    pub free_bytes: u64,
    /// What it must have free before anything is taken again, in bytes.
    pub needed_bytes: u64,
}

/// Whether the node's disks have room: set by whoever watches them, asked before anything is taken in. Clones share it;
/// a new one has room. Asking costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<ArcSwapOption<NoRoom>>);

impl Room {
    /// What lacks from now on; `None` when there is room.
    pub fn set(&self, lack: Option<NoRoom>) {
        self.0.store(lack.map(Arc::new));
    }

    /// Refuses when there is no room.
    pub fn check(&self) -> Result<(), NoRoom> {
        self.0.load().as_ref().map_or(Ok(()), |lack| Err(NoRoom::clone(lack)))
    }
}

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

/// What the disk with the least room to spare has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spare {
    /// A folder on that disk.
    pub folder: PathBuf,
    /// What it has free, in bytes.
    pub free_bytes: u64,
    /// Below which nothing more is taken in, in bytes.
    pub refuse_below_bytes: u64,
}

impl Spare {
    /// What it can take before it refuses, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.free_bytes.saturating_sub(self.refuse_below_bytes)
    }
}

/// Whether the node's disks have room: set by whoever watches them, asked before anything is taken in. Clones share it;
/// a new one has room. Asking costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    lack: ArcSwapOption<NoRoom>,
    spare: ArcSwapOption<Spare>,
}

impl Room {
    /// What lacks from now on; `None` when there is room.
    pub fn set(&self, lack: Option<NoRoom>) {
        self.0.lack.store(lack.map(Arc::new));
    }

    /// What there is to spare from now on.
    pub fn set_spare(&self, spare: Spare) {
        self.0.spare.store(Some(Arc::new(spare)));
    }

    /// Refuses when there is no room.
    pub fn check(&self) -> Result<(), NoRoom> {
        self.0.lack.load().as_ref().map_or(Ok(()), |lack| Err(NoRoom::clone(lack)))
    }

    /// Refuses also what would take so many bytes that nothing more could be taken in.
    pub fn check_for(&self, bytes: u64) -> Result<(), NoRoom> {
        self.check()?;
        let spare = self.0.spare.load();
        let Some(spare) = spare.as_ref().filter(|spare| spare.bytes() < bytes) else { return Ok(()) };
        let (folder, free_bytes) = (spare.folder.clone(), spare.free_bytes);
        Err(NoRoom { folder, free_bytes, needed_bytes: spare.refuse_below_bytes.saturating_add(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_use_up_the_room_is_refused_beforehand() {
        let room = Room::default();
        assert_eq!(room.check_for(u64::MAX), Ok(()), "nobody watches the disks");
        room.set_spare(Spare { folder: "/data".into(), free_bytes: 30, refuse_below_bytes: 10 });
        assert_eq!(room.check_for(20), Ok(()));
        let refused = room.check_for(21).unwrap_err();
        assert_eq!((refused.free_bytes, refused.needed_bytes), (30, 31));
        assert!(room.check_for(u64::MAX).is_err() && room.check().is_ok());
        let lack = NoRoom { folder: "/data".into(), free_bytes: 1, needed_bytes: 2 };
        room.set(Some(lack.clone()));
        assert_eq!(room.check_for(0), Err(lack));
    }
}

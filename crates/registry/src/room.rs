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

/// What a disk has to spare.
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

    /// Refuses what would leave less than it must have.
    fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        if bytes <= self.bytes() {
            return Ok(());
        }
        let needed_bytes = self.refuse_below_bytes.saturating_add(bytes);
        Err(NoRoom { folder: self.folder.clone(), free_bytes: self.free_bytes, needed_bytes })
    }
}

/// What the node's disks have to spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spares {
    /// The disk of the data folder, which has the spool.
    pub data: Spare,
    /// The disk of the region's store; `None` if that is not on a disk of this node.
    pub store: Option<Spare>,
    /// Whether they are one disk.
    pub one_disk: bool,
}

/// Whether the node's disks have room: set by whoever watches them, asked before anything is taken in. Clones share it;
/// a new one has room. Asking costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    lack: ArcSwapOption<NoRoom>,
    spares: ArcSwapOption<Spares>,
}

impl Room {
    /// What lacks from now on; `None` when there is room.
    pub fn set(&self, lack: Option<NoRoom>) {
        self.0.lack.store(lack.map(Arc::new));
    }

    /// What there is to spare from now on.
    pub fn set_spares(&self, spares: Spares) {
        self.0.spares.store(Some(Arc::new(spares)));
    }

    /// Refuses when there is no room.
    pub fn check(&self) -> Result<(), NoRoom> {
        self.0.lack.load().as_ref().map_or(Ok(()), |lack| Err(NoRoom::clone(lack)))
    }

    /// Refuses also a copy of so many bytes that nothing more could be taken in beside it.
    pub fn check_copy(&self, bytes: u64) -> Result<(), NoRoom> {
        self.check()?;
        let spares = self.0.spares.load();
        spares.as_ref().and_then(|spares| spares.store.as_ref()).map_or(Ok(()), |store| store.check(bytes))
    }

    /// Refuses a spool of so many bytes likewise; one of which a copy is made takes a disk that both are on twice.
    pub fn check_spool(&self, bytes: u64, copied: bool) -> Result<(), NoRoom> {
        self.check()?;
        let spares = self.0.spares.load();
        let Some(spares) = spares.as_ref() else { return Ok(()) };
        spares.data.check(if copied && spares.one_disk { bytes.saturating_mul(2) } else { bytes })
    }

    /// What can be fetched before there is no room, in bytes, wherever it goes.
    pub fn spare_bytes(&self) -> u64 {
        let store = |spares: &Spares| spares.store.as_ref().map_or(u64::MAX, Spare::bytes);
        let least = |spares: &Arc<Spares>| spares.data.bytes().min(store(spares));
        self.0.spares.load().as_ref().map_or(u64::MAX, least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares(data: u64, store: u64, one_disk: bool) -> Spares {
        let spare =
            |folder: &str, bytes| Spare { folder: folder.into(), free_bytes: 10 + bytes, refuse_below_bytes: 10 };
        Spares { data: spare("/data", data), store: Some(spare("/store", store)), one_disk }
    }

    #[test]
    fn what_would_use_up_the_room_is_refused_beforehand() {
        let room = Room::default();
        assert_eq!((room.check_copy(u64::MAX), room.spare_bytes()), (Ok(()), u64::MAX), "nobody watches the disks");
        room.set_spares(spares(30, 20, false));
        assert_eq!((room.check_copy(20), room.spare_bytes()), (Ok(()), 20));
        let refused = room.check_copy(21).unwrap_err();
        assert_eq!((refused.folder, refused.free_bytes, refused.needed_bytes), ("/store".into(), 30, 31));
        assert!(room.check_copy(u64::MAX).is_err() && room.check().is_ok());
        let lack = NoRoom { folder: "/data".into(), free_bytes: 1, needed_bytes: 2 };
        room.set(Some(lack.clone()));
        assert_eq!((room.check_copy(0), room.check_spool(0, false)), (Err(lack.clone()), Err(lack)));
    }

    #[test]
    fn a_store_elsewhere_has_no_bound_here() {
        let room = Room::default();
        room.set_spares(Spares { store: None, ..spares(30, 0, false) });
        assert!(room.check_copy(u64::MAX).is_ok() && room.check_spool(31, true).is_err());
        assert_eq!(room.spare_bytes(), 30);
    }

    #[test]
    fn a_spool_and_its_copy_take_a_disk_twice_that_both_are_on() {
        let room = Room::default();
        room.set_spares(spares(30, 30, true));
        assert!(room.check_spool(30, false).is_ok() && room.check_spool(31, false).is_err());
        assert!(room.check_spool(15, true).is_ok() && room.check_spool(16, true).is_err());
        room.set_spares(spares(30, 10, false));
        assert!(room.check_spool(30, true).is_ok() && room.check_copy(11).is_err());
    }
}

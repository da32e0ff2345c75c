//! The folder of snapshots: one that counts, those that are still being streamed, one that has arrived and is not
//! installed, and one that is arriving.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_fault::step_io;
use parking_lot::Mutex;
use rocksdb::DB;

use super::checkpoint::{self, Checkpoint, DATABASE, MANIFEST, describe};
use super::manifest::{SnapshotManifest, invalid, is_id, new_id};
use super::receiver::SnapshotReceiver;
use crate::durable;
use crate::error::{Result, StorageError};
use crate::state::Db;
use crate::{Resources, snapshot::receiver::Lease};

/// Prefix of a snapshot that is being made; cleared away at start.
const MAKING: &str = "making-";
/// Prefix of a snapshot that is arriving; what has arrived of it is kept.
pub(super) const ARRIVING: &str = "arriving-";

/// The snapshots of a data folder.
pub(crate) struct SnapshotStore {
    inner: Arc<Inner>,
    resources: Resources,
    /// One snapshot is made at a time.
    making: Mutex<()>,
}

pub(super) struct Inner {
    pub(super) path: PathBuf,
    slots: Mutex<Slots>,
    pub(super) receiving: Arc<Lease>,
}

/// The snapshots that are complete.
#[derive(Default)]
struct Slots {
    /// The one that counts.
    current: Option<Arc<Checkpoint>>,
    /// One that was received and is not installed yet.
    arrived: Option<Arc<Checkpoint>>,
}

impl SnapshotStore {
    /// Opens the folder and clears away what a crash left. A snapshot that was received and not seen to be installed
    /// counts if the state, at `applied`, has come as far; otherwise it waits for its sender to begin anew.
    pub(crate) fn open(path: PathBuf, resources: &Resources, applied: u64) -> Result<Self> {
        let mut slots = Slots::default();
        for name in durable::list(&path)?.into_iter().rev().filter(|name| !name.starts_with(ARRIVING)) {
            let folder = path.join(&name);
            if !is_id(&name) || !slots.take_in(&folder, applied)? {
                checkpoint::remove(&folder)?;
            }
        }
        let inner = Inner { path, slots: Mutex::new(slots), receiving: Arc::default() };
        Ok(Self { inner: Arc::new(inner), resources: resources.clone(), making: Mutex::new(()) })
    }

    pub(crate) fn current(&self) -> Option<Arc<Checkpoint>> {
        self.inner.slots.lock().current.clone()
    }

    /// Makes a snapshot of a database.
    pub(crate) fn create(&self, db: &DB) -> Result<Arc<Checkpoint>> {
        let _making = self.making.lock();
        let checkpoint = Arc::new(open_made(|| self.make(db))?);
        self.keep(&checkpoint)?;
        Ok(checkpoint)
    }

    /// Makes a snapshot's folder, or leaves none.
    fn make(&self, db: &DB) -> Result<PathBuf> {
        let making = self.inner.path.join(format!("{MAKING}{}", new_id(0)));
        // The error that is returned matters more than one of clearing up.
        self.make_in(&making, db).inspect_err(|_| drop(durable::remove_dir(&making)))
    }

    fn make_in(&self, making: &Path, db: &DB) -> Result<PathBuf> {
        std::fs::create_dir(making).map_err(StorageError::io("create", making))?;
        let database = making.join(DATABASE);
        let cut = rocksdb::checkpoint::Checkpoint::new(db);
        let failed = StorageError::database("make a snapshot of", db.path());
        let cut = || cut.and_then(|c| c.create_checkpoint(&database)).map_err(failed);
        step_io!("snapshot.cut", StorageError::io("make a snapshot in", making), cut())?;
        // From inside: the database may have gone on before the checkpoint was cut.
        let position = Db::open_read_only(&database, &self.resources)?.position()?;
        let mut files = Vec::new();
        for name in durable::list(&database)? {
            let path = database.join(&name);
            step_io!("snapshot.sync", StorageError::io("sync", &path), durable::sync_file(&path))?;
            files.push(describe(&path, &name)?);
        }
        let manifest = SnapshotManifest::new(new_id(position.applied.revision), &position, files);
        let (name, encoded) = (making.join(MANIFEST), manifest.encode()?);
        step_io!("snapshot.manifest", StorageError::io("write", &name), durable::write_synced(&name, &encoded))?;
        let synced = || durable::sync_dir(&database).and_then(|()| durable::sync_dir(making));
        step_io!("snapshot.folders", StorageError::io("sync", making), synced())?;
        let folder = self.inner.path.join(&manifest.id);
        step_io!("snapshot.publish", StorageError::io("rename", making), durable::rename(making, &folder))?;
        Ok(folder)
    }

    /// Makes a snapshot the one that counts, unless it is older; the other goes when its last reader has.
    pub(crate) fn keep(&self, checkpoint: &Arc<Checkpoint>) -> Result<()> {
        self.inner.keep(checkpoint)
    }

    /// Forgets a received snapshot that will not be installed; leaves one alone that counts.
    pub(crate) fn discard(&self, received: &Arc<Checkpoint>) {
        self.inner.slots.lock().drop_arrived(|arrived| Arc::ptr_eq(arrived, received));
    }

    pub(crate) fn receive(&self, manifest: &[u8]) -> Result<SnapshotReceiver> {
        let manifest = SnapshotManifest::decode(manifest)?;
        let lease = Lease::take(&self.inner.receiving)
            .ok_or_else(|| invalid("another one is being received; try again when that has ended".to_owned()))?;
        SnapshotReceiver::begin(self.inner.clone(), self.resources.clone(), manifest, lease)
    }
}

/// Opens what was made. What the disk has damaged by then, down to a file that is gone, is made once more; if that cannot
/// be opened either, so is its source.
pub(super) fn open_made(mut make: impl FnMut() -> Result<PathBuf>) -> Result<Checkpoint> {
    let open = |folder: PathBuf| Checkpoint::open(folder.clone()).inspect_err(|_| drop(checkpoint::remove(&folder)));
    let made = match make() {
        // The disk is full, or refuses: what was there already was not found to be wrong.
        Err(error) if !error.is_damage() => return Err(error),
        made => made,
    };
    made.and_then(open).or_else(|error| {
        tracing::warn!(%error, "a snapshot was damaged as soon as it was made; another one is made");
        make().and_then(open)
    })
}

impl Slots {
    /// Takes in a folder at start, newest first; false for one that is not needed or damaged.
    fn take_in(&mut self, folder: &Path, applied: u64) -> Result<bool> {
        let checkpoint = match Checkpoint::open(folder.to_owned()) {
            Ok(checkpoint) => Arc::new(checkpoint),
            Err(error) => {
                tracing::warn!(%error, "dropping a snapshot that is damaged");
                return Ok(false);
            }
        };
        let waits = Checkpoint::is_arrived(folder) && checkpoint.applied().revision > applied;
        let slot = if waits { &mut self.arrived } else { &mut self.current };
        if slot.is_some() {
            return Ok(false);
        }
        if !waits {
            checkpoint.promote()?;
        }
        *slot = Some(checkpoint);
        Ok(true)
    }

    /// Forgets a received snapshot that does not count yet, if it is one of these. Whoever installs it still can.
    fn drop_arrived(&mut self, which: impl FnOnce(&Arc<Checkpoint>) -> bool) {
        if let Some(arrived) = self.arrived.take_if(|arrived| which(arrived)) {
            arrived.condemn();
        }
    }
}

impl Inner {
    /// Makes a snapshot the one that counts, unless it is older; the other goes when its last reader has.
    pub(super) fn keep(&self, checkpoint: &Arc<Checkpoint>) -> Result<()> {
        let mut slots = self.slots.lock();
        checkpoint.promote()?;
        slots.arrived.take_if(|arrived| Arc::ptr_eq(arrived, checkpoint));
        match slots.current.as_ref() {
            Some(other) if Arc::ptr_eq(other, checkpoint) => {}
            Some(other) if other.applied().revision > checkpoint.applied().revision => checkpoint.condemn(),
            _ => {
                if let Some(old) = slots.current.replace(checkpoint.clone()) {
                    old.condemn();
                }
            }
        }
        Ok(())
    }

    /// Holds a received snapshot until it is installed, in place of an earlier one.
    pub(super) fn hold(&self, checkpoint: &Arc<Checkpoint>) {
        let mut slots = self.slots.lock();
        slots.drop_arrived(|_| true);
        slots.arrived = Some(checkpoint.clone());
    }

    /// Forgets what has arrived of other snapshots than this one: the sender has a newer one by now.
    pub(super) fn forget_others(&self, id: &str) -> Result<()> {
        self.slots.lock().drop_arrived(|arrived| arrived.manifest().id != id);
        for path in self.arriving_others(id)? {
            step_io!("snapshot.forget", StorageError::io("remove", &path), durable::remove_dir(&path))?;
        }
        Ok(())
    }

    /// The folders of other snapshots than this one that are arriving.
    pub(super) fn arriving_others(&self, id: &str) -> Result<Vec<PathBuf>> {
        let ours = format!("{ARRIVING}{id}");
        let names = durable::list(&self.path)?.into_iter();
        Ok(names.filter(|name| name.starts_with(ARRIVING) && *name != ours).map(|name| self.path.join(name)).collect())
    }

    /// The complete snapshot of this id, whether it counts or not.
    pub(super) fn complete(&self, id: &str) -> Option<Arc<Checkpoint>> {
        let slots = self.slots.lock();
        [&slots.current, &slots.arrived].into_iter().flatten().find(|c| c.manifest().id == id).cloned()
    }
}

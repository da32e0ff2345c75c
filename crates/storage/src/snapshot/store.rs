//! The folder of snapshots: one that counts, those that are still being streamed, and one that is arriving.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::DB;

use super::checkpoint::{Checkpoint, DATABASE, MANIFEST, describe};
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
    current: Mutex<Option<Arc<Checkpoint>>>,
    pub(super) receiving: Arc<Lease>,
}

impl SnapshotStore {
    /// Opens the folder and clears away what a crash left.
    pub(crate) fn open(path: PathBuf, resources: &Resources) -> Result<Self> {
        let mut newest = None;
        for name in durable::list(&path)?.into_iter().rev() {
            let folder = path.join(&name);
            if name.starts_with(ARRIVING) {
                continue;
            }
            if is_id(&name) && newest.is_none() {
                match Checkpoint::open(folder.clone()) {
                    Ok(checkpoint) => newest = Some(Arc::new(checkpoint)),
                    Err(error) => tracing::warn!(%error, "dropping a snapshot that is damaged"),
                }
            }
            if newest.as_ref().is_none_or(|checkpoint| checkpoint.manifest().id != name) {
                durable::remove_dir(&folder)?;
            }
        }
        let inner = Inner { path, current: Mutex::new(newest), receiving: Arc::default() };
        Ok(Self { inner: Arc::new(inner), resources: resources.clone(), making: Mutex::new(()) })
    }

    pub(crate) fn current(&self) -> Option<Arc<Checkpoint>> {
        self.inner.current.lock().clone()
    }

    /// Makes a snapshot of a database.
    pub(crate) fn create(&self, db: &DB) -> Result<Arc<Checkpoint>> {
        let _making = self.making.lock();
        let making = self.inner.path.join(format!("{MAKING}{}", new_id(0)));
        let made = self.make(db, &making);
        if made.is_err() {
            // The error that is returned matters more than one of clearing up.
            let _ = durable::remove_dir(&making);
        }
        let checkpoint = Arc::new(made?);
        self.keep(&checkpoint);
        Ok(checkpoint)
    }

    fn make(&self, db: &DB, making: &std::path::Path) -> Result<Checkpoint> {
        std::fs::create_dir(making).map_err(StorageError::io("create", making))?;
        let database = making.join(DATABASE);
        let failed = StorageError::database("make a snapshot of", db.path());
        rocksdb::checkpoint::Checkpoint::new(db).and_then(|c| c.create_checkpoint(&database)).map_err(failed)?;
        // From inside: the database may have gone on before the checkpoint was cut.
        let position = Db::open_read_only(&database, &self.resources)?.position()?;
        let mut files = Vec::new();
        for name in durable::list(&database)? {
            let path = database.join(&name);
            durable::sync_file(&path)?;
            files.push(describe(&path, &name)?);
        }
        let manifest = SnapshotManifest::new(new_id(position.applied.revision), &position, files);
        durable::write_synced(&making.join(MANIFEST), &manifest.encode()?)?;
        durable::sync_dir(&database)?;
        durable::sync_dir(making)?;
        let folder = self.inner.path.join(&manifest.id);
        durable::rename(making, &folder)?;
        Checkpoint::open(folder)
    }

    /// Makes a snapshot the one that counts, unless it is older; the other goes when its last reader has.
    pub(crate) fn keep(&self, checkpoint: &Arc<Checkpoint>) {
        self.inner.keep(checkpoint);
    }

    pub(crate) fn receive(&self, manifest: &[u8]) -> Result<SnapshotReceiver> {
        let manifest = SnapshotManifest::decode(manifest)?;
        let lease = Lease::take(&self.inner.receiving)
            .ok_or_else(|| invalid("another one is being received; try again when that has ended".to_owned()))?;
        SnapshotReceiver::begin(self.inner.clone(), self.resources.clone(), manifest, lease)
    }
}

impl Inner {
    pub(super) fn keep(&self, checkpoint: &Arc<Checkpoint>) {
        let mut current = self.current.lock();
        match current.as_ref() {
            Some(other) if Arc::ptr_eq(other, checkpoint) => {}
            Some(other) if other.applied().revision > checkpoint.applied().revision => checkpoint.condemn(),
            _ => {
                if let Some(old) = current.replace(checkpoint.clone()) {
                    old.condemn();
                }
            }
        }
    }

    /// The snapshot that counts, if it is this one.
    pub(super) fn current_if(&self, id: &str) -> Option<Arc<Checkpoint>> {
        self.current.lock().clone().filter(|checkpoint| checkpoint.manifest().id == id)
    }
}

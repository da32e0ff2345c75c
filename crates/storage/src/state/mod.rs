//! The replicated state.

mod batch;
mod db;
mod hash;
mod place;
mod rows;
mod view;

#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use atoll_fault::step_io;
use atoll_metadata::KvRead;
use parking_lot::Mutex;

use crate::error::{Result, StorageError};
use crate::snapshot::SnapshotStore;
use crate::{Checkpoint, DataFolder, Resources, SnapshotReceiver};
use batch::Finished;
pub use batch::{BatchKv, StateBatch};
pub(crate) use db::{Db, Position};
use hash::HashHistory;
use rows::{QuickView, Rows};
pub use view::StateView;

/// How far the state has come. Everything but the revision is opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The revision: index of the newest applied entry; zero before the first.
    pub revision: u64,
    /// The log id of that entry; `None` before the first.
    pub log_id: Option<Vec<u8>>,
    /// The membership that is in force, with the log id that set it; `None` before the first.
    pub membership: Option<Vec<u8>>,
}

/// What metrics tell of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateStats {
    /// The applied revision.
    pub revision: u64,
    /// Estimate of live bytes on the disk.
    pub disk_bytes: u64,
    /// Write buffers of both databases, in bytes.
    pub buffer_bytes: u64,
    /// Block cache of both databases, in bytes.
    pub cache_bytes: u64,
    /// Estimate of the number of keys.
    pub keys: u64,
    /// The newest snapshot's revision.
    pub snapshot_revision: Option<u64>,
}

/// The replicated state. Share it in an `Arc`.
///
/// Reads and the one writer do not wait for each other. A write that fails is final, like the log's: every change
/// after it is refused, and the process must end.
pub struct StateStore {
    path: PathBuf,
    resources: Resources,
    snapshots: SnapshotStore,
    current: ArcSwap<Db>,
    rows: Rows,
    /// Held by whoever applies or installs; counts the installs, by which the databases are named.
    writer: Mutex<u64>,
    known: Mutex<Known>,
    failed: OnceLock<String>,
    _lock: Arc<File>,
}

/// What is known without reading.
struct Known {
    position: Position,
    generation: u64,
    hashes: HashHistory,
}

impl Known {
    fn new(position: Position, generation: u64) -> Self {
        let hashes = HashHistory::starting_at(position.applied.revision, position.hash);
        Self { position, generation, hashes }
    }
}

impl StateStore {
    /// State hashes of how many newest revisions are kept in memory.
    pub const HASHES_MAX: usize = 1_024;

    /// Opens the state in a data folder, and clears away what a crash left.
    pub fn open(folder: &DataFolder, resources: &Resources) -> Result<Self> {
        let path = folder.state_dir();
        let generation = place::current(&path)?;
        let db = Db::open(&place::folder(&path, generation), resources)?;
        let known = Known::new(db.position()?, generation);
        // After the state: it tells whether a snapshot that was received was installed.
        let snapshots = SnapshotStore::open(folder.snapshots_dir(), resources, known.position.applied.revision)?;
        Ok(Self {
            path,
            resources: resources.clone(),
            snapshots,
            current: ArcSwap::from_pointee(db),
            rows: Rows::new(resources.rows_bytes),
            writer: Mutex::new(generation),
            known: Mutex::new(known),
            failed: OnceLock::new(),
            _lock: folder.lock(),
        })
    }

    /// Reads from one consistent view.
    pub fn read<R>(&self, reader: impl FnOnce(&StateView<'_>) -> R) -> Result<R> {
        let now = self.rows.settled_now();
        let db = self.current.load_full();
        let view = StateView::new(&db);
        if now.is_some() || self.is_before_the_change(&view)? {
            drop(now);
            return Ok(reader(&view));
        }
        drop(view);
        // The change can be seen in RocksDB, and is about to count.
        let settled = self.rows.settled();
        let db = self.current.load_full();
        let view = StateView::new(&db);
        drop(settled);
        Ok(reader(&view))
    }

    /// Whether a view that was made while a change was on its way is of the state before it, which is what all others
    /// see too: the write of a change may stand still for as long as the disk does, and no reader waits for that.
    /// `known` is looked at after the view was made, and set when the change counts.
    fn is_before_the_change(&self, view: &StateView<'_>) -> Result<bool> {
        Ok(view.revision()? == self.revision())
    }

    /// Reads from one consistent view, for which rows that are read often are in memory. The reader may be run twice;
    /// what it was told the last time counts.
    pub fn read_quickly(&self, reader: &mut dyn FnMut(&dyn KvRead)) -> Result<()> {
        match QuickView::with(&self.rows, || self.current.load_full(), |view| reader(view)) {
            Some(()) => Ok(()),
            None => self.read(|view| reader(view)),
        }
    }

    /// Applies entries: all that `apply` does becomes visible at once if it returns `Ok`, and nothing of it otherwise.
    /// One at a time; a second caller waits.
    pub fn apply_batch<R>(&self, apply: impl FnOnce(&mut StateBatch<'_>) -> Result<R>) -> Result<R> {
        let _writer = self.writer.lock();
        self.check_alive()?;
        let db = self.current.load_full();
        let mut batch = StateBatch::new(&db, self.known.lock().position.clone())?;
        let result = apply(&mut batch)?;
        let Finished { batch, keys, position, hashes } = batch.finish(&db)?;
        let names = self.rows.names(keys.iter().map(|(family, key)| (*family, key.as_slice())));
        let change = self.rows.change();
        let written = step_io!(
            "state.apply",
            StorageError::io("write to", db.path()),
            db.db.write(batch).map_err(StorageError::database("write to", db.path()))
        );
        written.map_err(|e| self.fail(e))?;
        change.made(&names);
        let mut known = self.known.lock();
        known.position = position;
        hashes.into_iter().for_each(|(revision, hash)| known.hashes.push(revision, hash, Self::HASHES_MAX));
        Ok(result)
    }

    /// How far the state has come.
    pub fn applied(&self) -> Applied {
        self.known.lock().position.applied.clone()
    }

    /// The applied revision. Costs next to nothing.
    pub fn revision(&self) -> u64 {
        self.known.lock().position.applied.revision
    }

    /// Makes everything applied so far durable, and returns the revision that is.
    pub fn flush_synced(&self) -> Result<u64> {
        self.check_alive()?;
        let revision = self.revision();
        let db = self.current.load_full();
        let synced = step_io!(
            "state.sync",
            StorageError::io("sync", db.path()),
            db.db.flush_wal(true).map_err(StorageError::database("sync", db.path()))
        );
        synced.map_err(|e| self.fail(e))?;
        Ok(revision)
    }

    /// The newest revision and its state hash.
    pub fn state_hash(&self) -> (u64, u128) {
        let known = self.known.lock();
        (known.position.applied.revision, known.position.hash)
    }

    /// The state hash at a revision, if it is among the newest [`StateStore::HASHES_MAX`].
    pub fn hash_at(&self, revision: u64) -> Option<u128> {
        self.known.lock().hashes.at(revision)
    }

    /// Reads the whole state and computes its hash from scratch, with the revision that was read.
    pub fn recompute_hash(&self) -> Result<(u64, u128)> {
        self.read(|view| Ok((view.revision()?, view.recompute_hash()?)))?
    }

    /// Makes a snapshot of the state as it is now. It is synced when this returns, and replaces the one before.
    pub fn create_checkpoint(&self) -> Result<Arc<Checkpoint>> {
        self.check_alive()?;
        let db = self.current.load_full();
        self.snapshots.create(&db.db)
    }

    /// The newest snapshot.
    pub fn current_checkpoint(&self) -> Option<Arc<Checkpoint>> {
        self.snapshots.current()
    }

    /// Starts or resumes receiving a snapshot. One at a time.
    pub fn receive(&self, manifest: &[u8]) -> Result<SnapshotReceiver> {
        self.snapshots.receive(manifest)
    }

    /// Replaces the whole state by a snapshot's, atomically: a crash leaves the old state or the new one. Readers of
    /// the old state finish on it. Refused when the state has come further already.
    pub fn install(&self, checkpoint: &Arc<Checkpoint>) -> Result<()> {
        let mut generation = self.writer.lock();
        self.check_alive()?;
        let (ours, theirs) = (self.revision(), checkpoint.applied().revision);
        if theirs < ours {
            return Err(StorageError::OutOfOrder(format!("the snapshot is of revision {theirs}, the state of {ours}")));
        }
        let next = *generation + 1;
        let folder = place::folder(&self.path, next);
        step_io!("state.clone", StorageError::io("copy to", &folder), checkpoint.clone_files_to(&folder))?;
        let db = Db::open(&folder, &self.resources)?;
        let position = db.position()?;
        if position != checkpoint.position() {
            db.dir.condemn();
            return Err(StorageError::SnapshotInvalid(
                "its database is not at the revision that its manifest names".into(),
            ));
        }
        let switched =
            step_io!("state.switch", StorageError::io("switch", &self.path), place::switch_to(&self.path, next));
        // It may have been done all the same: a restart would open the other one.
        switched.map_err(|e| self.fail(e))?;
        *generation = next;
        let mut change = self.rows.change();
        change.of_all();
        let old = self.current.swap(Arc::new(db));
        drop(change);
        *self.known.lock() = Known::new(position, next);
        old.dir.condemn();
        // The state is the snapshot's already, and a restart lets it count too.
        self.snapshots.keep(checkpoint).map_err(|e| self.fail(e))
    }

    /// Forgets a received snapshot that will not be installed; leaves one alone that is.
    pub fn discard(&self, received: &Arc<Checkpoint>) {
        self.snapshots.discard(received);
    }

    /// Grows by one with each install: whoever caches what was read must forget it.
    pub fn generation(&self) -> u64 {
        self.known.lock().generation
    }

    /// For metrics.
    pub fn stats(&self) -> StateStats {
        let db = self.current.load_full();
        let sum = |property: &rocksdb::properties::PropName| -> u64 {
            let one = |family| db.db.property_int_value_cf(db.family(family).ok()?, property).ok().flatten();
            atoll_metadata::Family::ALL.into_iter().filter_map(one).sum()
        };
        StateStats {
            revision: self.revision(),
            disk_bytes: sum(rocksdb::properties::ESTIMATE_LIVE_DATA_SIZE),
            buffer_bytes: self.resources.buffers.get_usage() as u64,
            cache_bytes: self.resources.cache.get_usage() as u64,
            keys: sum(rocksdb::properties::ESTIMATE_NUM_KEYS),
            snapshot_revision: self.current_checkpoint().map(|c| c.applied().revision),
        }
    }

    fn check_alive(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |why| Err(StorageError::Failed(why.clone())))
    }

    fn fail(&self, error: StorageError) -> StorageError {
        tracing::error!(%error, "the state cannot be written; this node must stop");
        // A second failure adds nothing.
        let _ = self.failed.set(error.to_string());
        error
    }
}

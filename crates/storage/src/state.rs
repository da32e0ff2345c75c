//! The replicated state.

use std::sync::Arc;

use atoll_metadata::{Family, Kv, KvError, KvRead};

use crate::error::Result;
use crate::{Checkpoint, DataFolder, Resources, SnapshotReceiver};

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

/// One consistent view of the state.
pub struct StateView<'a> {
    _db: &'a (),
}

impl StateView<'_> {
    /// The revision of this view.
    pub fn revision(&self) -> u64 {
        todo!()
    }
}

impl KvRead for StateView<'_> {
    fn get(&self, _family: Family, _key: &[u8]) -> std::result::Result<Option<Vec<u8>>, KvError> {
        todo!()
    }

    fn scan(
        &self,
        _family: Family,
        _from: &[u8],
        _to: &[u8],
        _limit: usize,
    ) -> std::result::Result<Vec<(Vec<u8>, Vec<u8>)>, KvError> {
        todo!()
    }
}

/// Entries that are being applied, and become visible and durable together.
pub struct StateBatch<'a> {
    _db: &'a (),
}

impl StateBatch<'_> {
    /// What the state machine applies to; sees what the batch's earlier entries wrote.
    pub fn kv(&mut self) -> &mut dyn Kv {
        todo!()
    }

    /// Ends one entry, blank ones and memberships included. Revisions only grow.
    pub fn entry_applied(&mut self, _revision: u64, _log_id: Vec<u8>) -> Result<()> {
        todo!()
    }

    /// Sets the membership.
    pub fn set_membership(&mut self, _membership: Vec<u8>) {
        todo!()
    }

    /// About how many bytes the batch holds, so that the caller can end it in time.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}

/// The replicated state. Share it in an `Arc`.
pub struct StateStore {}

impl StateStore {
    /// State hashes of how many newest revisions are kept in memory.
    pub const HASHES_MAX: usize = 1_024;

    /// Opens the state in a data folder, and clears away what a crash left.
    pub fn open(_folder: &DataFolder, _resources: &Resources) -> Result<Self> {
        todo!()
    }

    /// Reads from one consistent view.
    pub fn read<R>(&self, _reader: impl FnOnce(&StateView<'_>) -> R) -> Result<R> {
        todo!()
    }

    /// Applies entries: all that `apply` does becomes visible at once if it returns `Ok`, and nothing of it otherwise.
    /// One at a time; a second caller waits.
    pub fn apply_batch<R>(&self, _apply: impl FnOnce(&mut StateBatch<'_>) -> Result<R>) -> Result<R> {
        todo!()
    }

    /// How far the state has come.
    pub fn applied(&self) -> Applied {
        todo!()
    }

    /// The applied revision. Costs nothing.
    pub fn revision(&self) -> u64 {
        todo!()
    }

    /// Makes everything applied so far durable, and returns the revision that is.
    pub fn flush_synced(&self) -> Result<u64> {
        todo!()
    }

    /// The newest revision and its state hash.
    pub fn state_hash(&self) -> (u64, u128) {
        todo!()
    }

    /// The state hash at a revision, if it is among the newest [`StateStore::HASHES_MAX`].
    pub fn hash_at(&self, _revision: u64) -> Option<u128> {
        todo!()
    }

    /// Reads the whole state and computes its hash from scratch, with the revision that was read.
    pub fn recompute_hash(&self) -> Result<(u64, u128)> {
        todo!()
    }

    /// Makes a snapshot of the state as it is now. It is synced when this returns, and replaces the one before.
    pub fn create_checkpoint(&self) -> Result<Arc<Checkpoint>> {
        todo!()
    }

    /// The newest snapshot.
    pub fn current_checkpoint(&self) -> Option<Arc<Checkpoint>> {
        todo!()
    }

    /// Starts or resumes receiving a snapshot. One at a time.
    pub fn receive(&self, _manifest: &[u8]) -> Result<SnapshotReceiver> {
        todo!()
    }

    /// Replaces the whole state by a snapshot's, atomically. Readers of the old state finish on it.
    pub fn install(&self, _checkpoint: &Arc<Checkpoint>) -> Result<()> {
        todo!()
    }

    /// Grows by one with each install: whoever caches what was read must forget it.
    pub fn generation(&self) -> u64 {
        todo!()
    }

    /// For metrics.
    pub fn stats(&self) -> StateStats {
        todo!()
    }
}

//! The Raft log.

use bytes::Bytes;

use crate::error::{Result, StorageError};
use crate::{DataFolder, Resources};

/// Called once, when a write to the log is durable or has failed. Runs on the log's writer thread, in the order of the
/// calls: it must be quick and must not call back into the log.
pub type LogDone = Box<dyn FnOnce(std::io::Result<()>) + Send>;

/// One entry: opaque but for its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index.
    pub index: u64,
    /// Everything else, log id included.
    pub data: Bytes,
}

/// What metrics tell of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Lowest index that is there.
    pub first_index: Option<u64>,
    /// Highest index that is there.
    pub last_index: Option<u64>,
    /// Estimate of the bytes that the log takes on the disk and in write buffers.
    pub bytes: u64,
    /// Bytes queued and not yet durable.
    pub queued_bytes: u64,
    /// Synced writes since start.
    pub syncs: u64,
    /// Entries written since start.
    pub entries: u64,
    /// Microseconds spent in synced writes since start.
    pub sync_micros: u64,
    /// The slowest synced write since start, in microseconds.
    pub sync_micros_max: u64,
}

/// The Raft log. Share it in an `Arc`; dropping the last one writes what is queued and ends the writer thread.
///
/// All writes go through one queue in the order of the calls; one thread drains it into one synced batch (group
/// commit). What was queued can be read at once. A write that fails is final: its `done`, and every call after it, gets
/// the error, and `on_fatal` is called, which must end the process.
pub struct LogStore {}

impl LogStore {
    /// Opens the log in a data folder, and starts its writer thread.
    pub fn open(
        _folder: &DataFolder,
        _resources: &Resources,
        _on_fatal: impl Fn(&StorageError) + Send + Sync + 'static,
    ) -> Result<Self> {
        todo!()
    }

    /// Queues entries, which follow the last one without a gap. Blocks while the queue is full.
    pub fn append(&self, _entries: Vec<LogEntry>, _done: LogDone) -> Result<()> {
        todo!()
    }

    /// Entries with `from <= index < to`, at most about `bytes_max`, but at least one if there is one.
    pub fn read(&self, _from: u64, _to: u64, _bytes_max: usize) -> Result<Vec<LogEntry>> {
        todo!()
    }

    /// The last entry.
    pub fn last(&self) -> Result<Option<LogEntry>> {
        todo!()
    }

    /// Lowest index that is there.
    pub fn first_index(&self) -> Option<u64> {
        todo!()
    }

    /// Highest index that is there.
    pub fn last_index(&self) -> Option<u64> {
        todo!()
    }

    /// Queues the removal of every entry from an index on.
    pub fn truncate_from(&self, _index: u64, _done: LogDone) -> Result<()> {
        todo!()
    }

    /// Queues the removal of every entry up to an index, which is kept with `purged` (its log id). The state must be
    /// durable at that index before.
    pub fn purge_to(&self, _index: u64, _purged: Vec<u8>, _done: LogDone) -> Result<()> {
        todo!()
    }

    /// What [`LogStore::purge_to`] was last given.
    pub fn purged(&self) -> Option<(u64, Vec<u8>)> {
        todo!()
    }

    /// Queues the vote; visible at once, durable when `done` is called.
    pub fn save_vote(&self, _vote: Vec<u8>, _done: LogDone) -> Result<()> {
        todo!()
    }

    /// The vote.
    pub fn vote(&self) -> Option<Vec<u8>> {
        todo!()
    }

    /// Queues the committed log id. It is not synced for its own sake: it may go back in a power loss.
    pub fn save_committed(&self, _committed: Vec<u8>) -> Result<()> {
        todo!()
    }

    /// The committed log id.
    pub fn committed(&self) -> Option<Vec<u8>> {
        todo!()
    }

    /// Waits until everything queued before is durable.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }

    /// Estimate of the bytes that the log takes.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// For metrics.
    pub fn stats(&self) -> LogStats {
        todo!()
    }
}

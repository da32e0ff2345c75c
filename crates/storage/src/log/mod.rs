//! The Raft log.

mod disk;
mod queue;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Result, StorageError};
use crate::{DataFolder, Resources};
use disk::Disk;
use queue::Write;
use writer::{Shared, Writer};

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
    /// Batches written since start.
    pub batches: u64,
    /// Entries written since start.
    pub entries: u64,
    /// Microseconds spent in writing batches since start, syncing included.
    pub write_micros: u64,
    /// The slowest batch since start, in microseconds.
    pub write_micros_max: u64,
}

/// The Raft log. Share it in an `Arc`; dropping the last one writes what is queued and ends the writer thread.
///
/// All writes go through one queue in the order of the calls; one thread drains it into one synced batch (group
/// commit). What was queued can be read at once. A write that fails is final: its `done`, and every call after it, gets
/// the error, and `on_fatal` is called, which must end the process. An error that a call itself returns is the
/// caller's only word of it: its `done` is dropped.
pub struct LogStore {
    shared: Arc<Shared>,
    // Held so that dropping the log joins the thread.
    _writer: Writer,
    _lock: Arc<std::fs::File>,
}

impl LogStore {
    /// Bytes that may be queued before [`LogStore::append`] blocks.
    pub const QUEUE_BYTES_MAX: usize = 16 << 20;

    /// Opens the log in a data folder, and starts its writer thread.
    pub fn open(
        folder: &DataFolder,
        resources: &Resources,
        on_fatal: impl Fn(&StorageError) + Send + Sync + 'static,
    ) -> Result<Self> {
        let disk = Disk::open(&folder.log_dir(), resources)?;
        let shared = Arc::new(Shared::new(disk)?);
        let writer = Writer::start(shared.clone(), Box::new(on_fatal))
            .map_err(StorageError::io("start the writer of", &folder.log_dir()))?;
        Ok(Self { shared, _writer: writer, _lock: folder.lock() })
    }

    /// Queues entries, which follow the last one without a gap. Blocks while the queue is full.
    pub fn append(&self, entries: Vec<LogEntry>, done: LogDone) -> Result<()> {
        self.shared.submit(Write::Append(entries), Some(done))
    }

    /// Entries with `from <= index < to`, at most about `bytes_max`, but at least one if there is one. Consistent:
    /// what is queued while it reads does not show. Fewer than asked for lack at the end alone: a range that begins in
    /// what was purged is [`StorageError::Purged`], not a gap.
    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>> {
        self.shared.read(from, to, bytes_max)
    }

    /// The last entry.
    pub fn last(&self) -> Result<Option<LogEntry>> {
        // A truncation or a purge may come between the two steps; then there is another last one.
        while let Some(index) = self.last_index() {
            match self.read(index, index + 1, usize::MAX) {
                Ok(mut entries) => match entries.pop() {
                    Some(entry) => return Ok(Some(entry)),
                    None => continue,
                },
                Err(StorageError::Purged { .. }) => continue,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Lowest index that is there.
    pub fn first_index(&self) -> Option<u64> {
        self.shared.view(|view| view.first_index())
    }

    /// Highest index that is there.
    pub fn last_index(&self) -> Option<u64> {
        self.shared.view(|view| view.last_index())
    }

    /// Queues the removal of every entry from an index on.
    pub fn truncate_from(&self, index: u64, done: LogDone) -> Result<()> {
        self.shared.submit(Write::Truncate(index), Some(done))
    }

    /// Queues the removal of every entry up to an index, which is kept with `purged` (its log id). The state must be
    /// durable at that index before. Changes nothing, on the disk neither, when as much was purged before.
    pub fn purge_to(&self, index: u64, purged: Vec<u8>, done: LogDone) -> Result<()> {
        self.shared.submit(Write::Purge(index, purged), Some(done))
    }

    /// What [`LogStore::purge_to`] was last given.
    pub fn purged(&self) -> Option<(u64, Vec<u8>)> {
        self.shared.view(|view| view.purged.clone())
    }

    /// Queues the vote; visible at once, durable when `done` is called.
    pub fn save_vote(&self, vote: Vec<u8>, done: LogDone) -> Result<()> {
        self.shared.submit(Write::Vote(vote), Some(done))
    }

    /// The vote.
    pub fn vote(&self) -> Option<Vec<u8>> {
        self.shared.view(|view| view.vote.clone())
    }

    /// Queues the committed log id. It is not synced for its own sake: it may go back in a power loss.
    pub fn save_committed(&self, committed: Vec<u8>) -> Result<()> {
        self.shared.submit(Write::Committed(committed), None)
    }

    /// The committed log id.
    pub fn committed(&self) -> Option<Vec<u8>> {
        self.shared.view(|view| view.committed.clone())
    }

    /// Waits until everything queued before is written, and durable where it must be.
    pub fn flush(&self) -> Result<()> {
        let (done, written) = std::sync::mpsc::sync_channel(1);
        self.shared.submit(Write::Barrier, Some(Box::new(move |result| drop(done.send(result)))))?;
        match written.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StorageError::Failed(error.to_string())),
            Err(_) => Err(StorageError::Failed("the log's writer thread has ended".to_owned())),
        }
    }

    /// Estimate of the bytes that the log takes on the disk and in write buffers.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes()
    }

    /// For metrics.
    pub fn stats(&self) -> LogStats {
        self.shared.stats()
    }
}

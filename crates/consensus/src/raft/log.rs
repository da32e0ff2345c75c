//! The Raft log as openraft wants it, over the storage's.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use atoll_storage::{LogDone, LogEntry, LogStore, StateStore, StorageError};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{oneshot, watch};

use super::blocking::blocking;
use super::codec;
use super::types::{Entry, LogId, Types, Vote};

/// What a purge waits for: the state must be durable at least as far as the log is thrown away.
#[derive(Clone)]
pub(crate) struct PurgeGuard {
    pub(crate) state: Arc<StateStore>,
    /// Revisions as they are applied or installed.
    pub(crate) applied: watch::Receiver<u64>,
}

/// The Raft log. A clone is a reader of the same log.
#[derive(Clone)]
pub(crate) struct Log {
    store: Arc<LogStore>,
    /// Bytes of entries that one message to a peer carries at most.
    batch_bytes_max: usize,
    guard: Option<PurgeGuard>,
}

impl Log {
    pub(crate) fn new(store: Arc<LogStore>, batch_bytes_max: usize, guard: Option<PurgeGuard>) -> Self {
        Self { store, batch_bytes_max, guard }
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let store = self.store.clone();
        let entries = blocking(move || store.read(from, to, bytes_max)).await?;
        entries.into_iter().map(|entry| codec::decode_entry(entry.data)).collect()
    }

    /// Queues a write and waits until it is durable.
    async fn durable(&self, write: impl FnOnce(&LogStore, LogDone) -> Result<(), StorageError>) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        write(&self.store, Box::new(move |result| drop(done.send(result))))?;
        written.await.map_err(|_| io::Error::other("the log's writer has ended"))?
    }

    /// Waits until the state is durable at an index.
    async fn state_covers(&self, index: u64) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let mut applied = guard.applied.clone();
        let gone = |_| io::Error::other("the state machine has ended");
        applied.wait_for(|revision| *revision >= index).await.map_err(gone)?;
        let state = guard.state.clone();
        let durable = blocking(move || state.flush_synced()).await?;
        if durable < index {
            return Err(io::Error::other(format!(
                "the log must not be purged to {index}: the state is durable at {durable} only"
            )));
        }
        Ok(())
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.store.vote().as_deref().map(codec::decode_vote).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, self.batch_bytes_max).await
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let store = self.store.clone();
        let last = blocking(move || store.last()).await?;
        let purged = self.store.purged().map(|(_, id)| codec::decode_log_id(&id)).transpose()?;
        let last = last.map(|entry| codec::decode_entry(entry.data)).transpose()?.map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = codec::encode_vote(vote);
        self.durable(|store, done| store.save_vote(vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.store.save_committed(codec::encode_log_id(&committed))?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.store.committed().as_deref().map(codec::decode_log_id).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let stored = |entry: Entry| LogEntry { index: entry.log_id.index(), data: codec::encode_entry(&entry) };
        let entries: Vec<LogEntry> = entries.into_iter().map(stored).collect();
        let store = self.store.clone();
        // It blocks while the log's queue is full.
        blocking(move || store.append(entries, Box::new(|result| callback.io_completed(result)))).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index() + 1);
        self.durable(|store, done| store.truncate_from(from, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.state_covers(upto.index()).await?;
        self.durable(|store, done| store.purge_to(upto.index(), codec::encode_log_id(&upto), done)).await
    }
}

/// `from <= index < to`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

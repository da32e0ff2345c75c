//! The Raft log as openraft wants it, over the storage's.

use std::convert::identity;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use atoll_fault::step_io;
use atoll_storage::{LogDone, LogEntry, LogStore, StateStore, StorageError};
use futures::{Stream, TryStreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{oneshot, watch};

use super::blocking::blocking;
use super::codec;
use super::types::{Entry, LogId, Types, Vote};

/// Entries that are read at once to be applied, at most.
const PAGE_ENTRIES_MAX: u64 = 512;
/// Bytes of them, about.
const PAGE_BYTES_MAX: usize = 2 << 20;

/// What a purge waits for: the state must be durable at least as far as the log is thrown away, and a snapshot must
/// reach as far, for peers that lack it.
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

    /// Entries from an index on, or through which index they are purged.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Result<Vec<Entry>, Purged>> {
        let store = self.store.clone();
        let read = move || match store.read(from, to, bytes_max) {
            Ok(entries) => Ok(Ok(entries)),
            Err(StorageError::Purged { through, .. }) => Ok(Err(Purged { through })),
            Err(error) => Err(error),
        };
        match blocking(read).await? {
            Ok(entries) => {
                entries.into_iter().map(|entry| codec::decode_entry(entry.data)).collect::<io::Result<_>>().map(Ok)
            }
            Err(purged) => Ok(Err(purged)),
        }
    }

    /// Entries that must be there, as far as the log goes.
    async fn page(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let to = to.min(from.saturating_add(PAGE_ENTRIES_MAX));
        let missing = |Purged { through }| {
            io::Error::other(format!("entry {from} is to be applied, and the log is purged up to {through} already"))
        };
        self.read(from, to, PAGE_BYTES_MAX).await?.map_err(missing)
    }

    /// Queues a write and waits until it is durable.
    async fn durable(&self, write: impl FnOnce(&LogStore, LogDone) -> Result<(), StorageError>) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        write(&self.store, Box::new(move |result| drop(done.send(result))))?;
        written.await.map_err(|_| io::Error::other("the log's writer has ended"))?
    }

    /// Waits until the state is durable at an index, and sees to it that a snapshot reaches as far.
    async fn state_covers(&self, index: u64) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let mut applied = guard.applied.clone();
        let gone = |_| io::Error::other("the state machine has ended");
        applied.wait_for(|revision| *revision >= index).await.map_err(gone)?;
        let state = guard.state.clone();
        step_io!("log.cover", identity, blocking(move || cover(&state, index)).await)
    }
}

/// Makes the state durable at an index that it has applied, and a snapshot where the newest one does not reach as far.
fn cover(state: &StateStore, index: u64) -> Result<(), StorageError> {
    let durable = state.flush_synced()?;
    if durable < index {
        let why = format!("the log must not be purged to {index}: the state is durable at {durable} only");
        return Err(StorageError::OutOfOrder(why));
    }
    if state.current_checkpoint().is_none_or(|checkpoint| checkpoint.applied().revision < index) {
        state.create_checkpoint()?;
    }
    Ok(())
}

/// What is asked for is not in the log any more.
struct Purged {
    through: u64,
}

/// Entries in order, page by page: what is read and not yet applied stays bounded.
fn pages(log: Log, from: u64, to: u64) -> impl Stream<Item = io::Result<Entry>> + Send + 'static {
    let page = stream::try_unfold(from, move |from| {
        let log = log.clone();
        async move {
            let page = log.page(from, to).await?;
            let next = from.saturating_add(page.len() as u64);
            Ok::<_, io::Error>((!page.is_empty()).then(|| (stream::iter(page.into_iter().map(Ok)), next)))
        }
    });
    page.try_flatten()
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (mut from, to) = bounds(&range);
        loop {
            // The contract admits that entries lack at the beginning, if they were purged.
            match self.read(from, to, usize::MAX).await? {
                Ok(entries) => return Ok(entries),
                Err(Purged { through }) => from = through.saturating_add(1),
            }
        }
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        pages(self.clone(), from, to)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.store.vote().as_deref().map(codec::decode_vote).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        match self.read(start, end, self.batch_bytes_max).await? {
            Ok(entries) => Ok(entries),
            // A former leader's last read, after an install. openraft takes an error for a failed disk and ends the node;
            // out of nothing it makes a message without entries, and then notices that the leader has changed.
            Err(Purged { through }) => {
                tracing::warn!(start, end, through, "entries for a peer are purged already; none are sent");
                Ok(Vec::new())
            }
        }
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

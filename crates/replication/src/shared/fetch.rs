//! One blob on its way, and all who wait for it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_proto::replication::BLOCK_BYTES;
use atoll_types::{Digest, NodeId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::map::{BlockMap, ReaderId, Segment};
use super::spool::Spool;
use crate::keep::{Kept, WrongDigest};
use crate::source::{Block, TransferError};

/// Why a fetch ended without the blob.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Digest(Box<WrongDigest>),
    #[error("what has arrived cannot be kept for its readers: {0}; see to the node's disk")]
    Spool(String),
    #[error("all {0} streams for clients of unshared blobs are taken")]
    NoStream(usize),
    #[error("the node is stopping")]
    Stopped,
}

/// What a fetch is doing, for the task that drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Somebody waits for something.
    Busy,
    /// Nobody does.
    Idle,
    /// It failed, or the region has a copy now.
    Ended,
}

/// One blob on its way.
pub(crate) struct SharedFetch {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    spool: Spool,
    state: Mutex<State>,
    /// Something arrived, was proved, or failed: for those who wait.
    changed: watch::Sender<()>,
    /// A reader has come to another block: for whoever waits for its turn to fetch it.
    moved: watch::Sender<()>,
    /// What is wanted has changed: for the task that drives the fetch.
    demand: Notify,
}

struct State {
    map: BlockMap,
    /// Whether the blob goes into the region's store.
    keep: bool,
    /// Whether the whole is to be fetched, whoever leaves.
    complete: bool,
    /// Somebody has a part of the blob from elsewhere.
    patient: bool,
    /// How many fetchers want the whole.
    interests: usize,
    verified: bool,
    kept: Option<Result<Kept, String>>,
    failed: Option<FetchError>,
    contributors: BTreeSet<NodeId>,
    /// When the last reader or fetcher left.
    left: Instant,
}

impl State {
    /// Whether everything is wanted, not only what readers ask for.
    fn fill(&self) -> bool {
        self.complete || self.interests > 0
    }

    /// Whether nothing is left to do for the whole.
    fn is_settled(&self) -> bool {
        self.verified && (!self.keep || self.kept.is_some())
    }
}

impl SharedFetch {
    pub(crate) fn new(digest: Digest, size: u64, spool: Spool, read_ahead_bytes: u64) -> Arc<Self> {
        let read_ahead = usize::try_from(read_ahead_bytes / BLOCK_BYTES).unwrap_or(usize::MAX);
        let state = State {
            map: BlockMap::new(size, read_ahead),
            keep: false,
            complete: false,
            patient: false,
            interests: 0,
            verified: false,
            kept: None,
            failed: None,
            contributors: BTreeSet::new(),
            left: Instant::now(),
        };
        let (state, demand) = (Mutex::new(state), Notify::new());
        let (changed, moved) = (watch::Sender::new(()), watch::Sender::new(()));
        Arc::new(Self { digest, size, spool, state, changed, moved, demand })
    }

    /// How many blocks the blob has.
    pub(crate) fn block_count(&self) -> usize {
        self.state.lock().map.len()
    }

    /// Bytes of a run of blocks.
    pub(crate) fn bytes_of(&self, blocks: &Range<usize>) -> Range<u64> {
        blocks.start as u64 * BLOCK_BYTES..(blocks.end as u64 * BLOCK_BYTES).min(self.size)
    }

    // What readers and fetchers say.

    /// A reader of a range joins. With `keep` the blob goes into the store if all of it comes; with `complete` all of
    /// it is fetched whoever leaves.
    pub(crate) fn join(&self, blocks: Range<usize>, keep: bool, complete: bool) -> ReaderId {
        let id = {
            let mut state = self.state.lock();
            state.keep |= keep;
            state.complete |= keep && complete;
            state.map.join(blocks)
        };
        self.moved.send_replace(());
        self.wake();
        id
    }

    pub(crate) fn advance(&self, reader: ReaderId, block: usize) {
        self.state.lock().map.advance(reader, block);
        self.moved.send_replace(());
        self.demand.notify_one();
    }

    pub(crate) fn leave(&self, reader: ReaderId) {
        self.leave_at(|state| state.map.leave(reader));
        self.demand.notify_one();
    }

    fn leave_at(&self, leave: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        leave(&mut state);
        state.left = Instant::now();
    }

    /// When the last one who wanted it has left; `None` while it is wanted.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.status() == Status::Idle).then(|| self.state.lock().left)
    }

    /// Has its driver look whether it is still needed.
    pub(crate) fn reconsider(&self) {
        self.demand.notify_one();
    }

    /// Waits until a reader waits for a block of these.
    pub(crate) async fn awaited(&self, blocks: &Range<usize>) {
        let mut moved = self.moved.subscribe();
        while !self.state.lock().map.is_awaited(blocks) {
            if moved.changed().await.is_err() {
                // The sender lives as long as `self` does.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Wants the whole in the region's store for as long as the interest lives.
    pub(crate) fn interest(self: &Arc<Self>) -> Interest {
        {
            let mut state = self.state.lock();
            state.interests += 1;
            state.keep = true;
            // What could not be kept, or was not wanted, is tried anew.
            state.kept.take_if(|kept| !matches!(kept, Ok(Kept::Recorded)));
        }
        self.wake();
        Interest(self.clone())
    }

    /// Waits until a block is here and, with `proved`, until the whole is verified.
    pub(crate) async fn wait_for(&self, block: usize, proved: bool) -> Result<(), FetchError> {
        self.wait(|state| match (state.map.is_here(block) && (!proved || state.verified), &state.failed) {
            (true, _) => Some(Ok(())),
            (false, Some(error)) => Some(Err(error.clone())),
            (false, None) => None,
        })
        .await
    }

    /// A run of bytes of one block that is here.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> Result<Bytes, FetchError> {
        self.spool.read(offset, length).await.map_err(|e| FetchError::Spool(e.to_string()))
    }

    // What the driver and its workers do.

    pub(crate) fn status(&self) -> Status {
        let state = self.state.lock();
        if state.failed.is_some() || matches!(state.kept, Some(Ok(Kept::Recorded))) {
            Status::Ended
        } else if state.map.has_readers() || (state.fill() && !state.is_settled()) {
            Status::Busy
        } else {
            Status::Idle
        }
    }

    pub(crate) fn next_segment(&self) -> Option<Segment> {
        let mut state = self.state.lock();
        let fill = state.fill();
        state.map.next_segment(fill)
    }

    /// Whether somebody would lose what has come so far: then sources are tried for longer.
    pub(crate) fn is_in_the_midst(&self) -> bool {
        let state = self.state.lock();
        state.patient || state.map.has_any()
    }

    /// Somebody joins who has a part of the blob from elsewhere.
    pub(crate) fn be_patient(&self) {
        self.state.lock().patient = true;
    }

    /// Keeps a block that has arrived.
    pub(crate) async fn store(&self, block: Block, from: NodeId) -> Result<(), FetchError> {
        let index = usize::try_from(block.offset / BLOCK_BYTES).unwrap_or(usize::MAX);
        self.spool.write(index, block.data).await.map_err(|e| FetchError::Spool(e.to_string()))?;
        {
            let mut state = self.state.lock();
            state.map.arrived(index);
            state.contributors.insert(from);
        }
        self.wake();
        Ok(())
    }

    pub(crate) fn took(&self, blocks: usize, time: Duration) {
        self.state.lock().map.took(blocks, time);
    }

    pub(crate) fn release(&self, segment: Range<usize>) {
        self.state.lock().map.release(segment);
        self.demand.notify_one();
    }

    /// Waits until what is wanted may have changed.
    pub(crate) async fn demand_changed(&self) {
        self.demand.notified().await;
    }

    // What the verifier finds.

    /// Whether the blob is to go into the store, and has not failed to.
    pub(crate) fn keeps(&self) -> bool {
        let state = self.state.lock();
        state.keep && state.kept.is_none()
    }

    /// Waits until it is to go into the store.
    pub(crate) async fn wait_keep(&self) {
        self.wait(|state| (state.keep && state.kept.is_none()).then_some(())).await;
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.state.lock().verified
    }

    pub(crate) fn set_verified(&self) {
        self.state.lock().verified = true;
        self.wake();
    }

    pub(crate) fn set_kept(&self, kept: Result<Kept, String>) {
        self.state.lock().kept = Some(kept);
        self.wake();
    }

    /// Ends it: who waits gets the error, unless what it waits for is here.
    pub(crate) fn fail(&self, error: FetchError) {
        self.state.lock().failed.get_or_insert(error);
        self.wake();
    }

    /// The error that it ended with, if it did.
    pub(crate) fn result(&self) -> Result<(), FetchError> {
        self.state.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Who sent blocks of it.
    pub(crate) fn contributors(&self) -> Vec<NodeId> {
        self.state.lock().contributors.iter().copied().collect()
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(found) = ready(&self.state.lock()) {
                return found;
            }
            if changed.changed().await.is_err() {
                // The sender lives as long as `self` does.
                std::future::pending::<()>().await;
            }
        }
    }

    fn wake(&self) {
        self.changed.send_replace(());
        self.demand.notify_one();
    }
}

/// A fetcher wants the whole blob in the store.
pub(crate) struct Interest(Arc<SharedFetch>);

impl Interest {
    /// Waits for what became of it.
    pub(crate) async fn outcome(&self) -> Result<Kept, String> {
        self.0
            .wait(|state| match (&state.kept, &state.failed) {
                (Some(kept), _) => Some(kept.clone()),
                (None, Some(error)) => Some(Err(error.to_string())),
                (None, None) => None,
            })
            .await
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.leave_at(|state| state.interests -= 1);
        self.0.demand.notify_one();
    }
}

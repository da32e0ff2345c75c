//! All blobs on their way.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use atoll_proto::replication::BLOCK_BYTES;
use atoll_registry::Room;
use atoll_types::Digest;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fetch::{FetchError, SharedFetch, Status};
use super::map::Segment;
use super::spool::{Budget, Spool, prepare};
use super::streams::{Permit, Streams};
use super::verify::verify;
use crate::ReadThroughOptions;
use crate::keep::{KeepError, Keeper};
use crate::source::{Patience, PeerSources, Purpose, Transfer, TransferError};

/// Why the fetcher has no copy.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("{0}")]
    Fetch(String),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("the fetch panicked: {0}")]
    Panicked(String),
}

/// All blobs on their way to this node, one fetch for each.
pub(crate) struct FetchPool {
    pub(crate) sources: Arc<PeerSources>,
    keeper: Keeper,
    pub(super) options: ReadThroughOptions,
    memory: Arc<Budget>,
    disk: Arc<Budget>,
    fetches: Mutex<HashMap<Digest, Arc<SharedFetch>>>,
    /// Streams for what is shared.
    streams: Streams,
    /// Streams for one client each.
    pub(super) direct: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl FetchPool {
    pub(crate) fn new(
        sources: Arc<PeerSources>,
        keeper: Keeper,
        options: ReadThroughOptions,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        prepare(&options.spool)?;
        Ok(Arc::new(Self {
            memory: Budget::new(options.memory_bytes_max),
            disk: Budget::new(options.spool_bytes_max),
            fetches: Mutex::default(),
            streams: Streams::new(options.streams_max),
            direct: Arc::new(Semaphore::new(sources.options.direct_streams_max.clamp(1, Semaphore::MAX_PERMITS))),
            tasks: TaskTracker::new(),
            sources,
            keeper,
            options,
            stop,
        }))
    }

    /// Whether the node's disks have room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.room().check().is_ok()
    }

    pub(crate) fn room(&self) -> &Room {
        &self.options.room
    }

    /// Waits until all fetches have ended; they are told by the token given at the start.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many blobs are on their way.
    pub(crate) fn len(&self) -> usize {
        self.fetches.lock().len()
    }

    /// Brings a blob into the region's store, for the fetcher: shared with readers where the spool has room. What would
    /// leave no room for pushes is not even begun.
    pub(crate) async fn fetch(self: &Arc<Self>, digest: Digest, size: u64) -> Result<(), PoolError> {
        self.room().check_copy(size).map_err(KeepError::from)?;
        let interest = match self.shared(digest, size, true, |fetch| fetch.interest()).await {
            Shared::Joined(interest) => interest,
            Shared::NoRoom | Shared::Stopping => return self.fetch_direct(digest, size).await,
        };
        interest.outcome().await.map(|_| ()).map_err(PoolError::Fetch)
    }

    /// The same for a blob that the spool has no room for.
    async fn fetch_direct(&self, digest: Digest, size: u64) -> Result<(), PoolError> {
        let _permit = self.streams.background().await.map_err(|error| PoolError::Fetch(error.to_string()))?;
        let mut writer = self.keeper.begin(&digest).await?;
        let (sources, mut contributors) = (self.sources.clone(), Vec::new());
        let mut transfer = Transfer::new(sources, digest, size, 0..size, Patience::MIDDLE, Purpose::Background);
        while let Some((block, from)) = transfer.next().await? {
            self.options.room.check().map_err(KeepError::from)?;
            writer.write(block.data).await.map_err(KeepError::from)?;
            if !contributors.contains(&from) {
                contributors.push(from);
            }
        }
        let kept = self.keeper.finish(writer, &digest).await;
        if matches!(kept, Err(KeepError::Digest(_))) {
            self.sources.suspects.wrong_digest(digest, contributors);
        }
        Ok(kept.map(|_| ())?)
    }

    /// Joins the one fetch of a blob, or starts it; `copied` says that a copy is made of what comes. `join` runs while the
    /// fetch cannot end.
    pub(super) async fn shared<T>(
        self: &Arc<Self>,
        digest: Digest,
        size: u64,
        copied: bool,
        join: impl Fn(&Arc<SharedFetch>) -> T,
    ) -> Shared<T> {
        {
            let mut fetches = self.fetches.lock();
            if let Some(fetch) = fetches.get(&digest).filter(|f| f.status() != Status::Ended) {
                return Shared::Joined(join(fetch));
            }
            if self.stop.is_cancelled() {
                return Shared::Stopping;
            }
            if !self.has_place(&mut fetches) || !self.may_begin(size, copied) {
                return Shared::NoRoom;
            }
        }
        let spool = match Spool::new(size, &self.memory, &self.disk, &self.options.spool).await {
            Ok(Some(spool)) => spool,
            Ok(None) => return Shared::NoRoom,
            Err(error) => {
                tracing::warn!(folder = %self.options.spool.display(), %error, "the spool is unusable; blobs are streamed unshared");
                return Shared::NoRoom;
            }
        };
        let mut fetches = self.fetches.lock();
        // Somebody may have been quicker meanwhile; a fetch that has ended is replaced.
        if let Some(fetch) = fetches.get(&digest).filter(|f| f.status() != Status::Ended) {
            return Shared::Joined(join(fetch));
        }
        if !self.has_place(&mut fetches) {
            return Shared::NoRoom;
        }
        let fetch = SharedFetch::new(digest, size, spool, self.options.read_ahead_bytes);
        let joined = join(&fetch);
        fetches.insert(digest, fetch.clone());
        self.tasks.spawn(self.clone().drive(fetch));
        Shared::Joined(joined)
    }

    /// Small blobs are held in memory. Another one that the disk has no room for as a whole is not spooled.
    fn may_begin(&self, size: u64, copied: bool) -> bool {
        size <= BLOCK_BYTES || self.room().check_spool(size, copied).is_ok()
    }

    /// Small blobs are held in memory; others need the disk.
    fn may_spool(&self, size: u64) -> bool {
        size <= BLOCK_BYTES || self.has_room()
    }

    /// Whether one more blob may be shared; if there are too many, the one that was idle for longest goes.
    fn has_place(&self, fetches: &mut HashMap<Digest, Arc<SharedFetch>>) -> bool {
        if fetches.len() < self.options.blobs_max {
            return true;
        }
        let idle = fetches.values().filter_map(|fetch| Some((fetch.idle_since()?, fetch)));
        let Some(oldest) = idle.min_by_key(|(since, _)| *since).map(|(_, fetch)| fetch.clone()) else { return false };
        remove(fetches, &oldest);
        oldest.reconsider();
        true
    }

    /// Runs one fetch: as many streams as it needs and may have, until it has ended or nobody wants it.
    async fn drive(self: Arc<Self>, fetch: Arc<SharedFetch>) {
        let (mut workers, mut verifier) = (JoinSet::new(), JoinSet::new());
        verifier.spawn(verify(fetch.clone(), self.keeper.clone(), self.options.room.clone()));
        let mut idle_since = None;
        loop {
            match fetch.status() {
                Status::Ended => break,
                Status::Busy => idle_since = None,
                Status::Idle if self.is_over(&fetch, *idle_since.get_or_insert_with(Instant::now)) => break,
                Status::Idle => {}
            }
            while workers.len() < self.options.streams_per_blob_max.max(1)
                && let Some(segment) = fetch.next_segment()
            {
                workers.spawn(self.clone().run_segment(Claim { fetch: fetch.clone(), segment }));
            }
            tokio::select! {
                Some(done) = workers.join_next() => if let Err(error) = flatten(done) {
                    fetch.fail(error);
                },
                Some(ended) = verifier.join_next() => if let Err(error) = ended {
                    fetch.fail(FetchError::Spool(error.to_string()));
                },
                () = fetch.demand_changed() => {}
                () = sleep(self.options.linger), if idle_since.is_some() => {}
                () = self.stop.cancelled() => fetch.fail(FetchError::Stopped),
            }
        }
        self.forget(&fetch);
    }

    /// Whether nobody has wanted it for so long that it can go, or it had to make room; then nobody can join it any
    /// more.
    fn is_over(&self, fetch: &Arc<SharedFetch>, idle_since: Instant) -> bool {
        let mut fetches = self.fetches.lock();
        let is_listed = fetches.get(&fetch.digest).is_some_and(|f| Arc::ptr_eq(f, fetch));
        let is_due = !is_listed || idle_since.elapsed() >= self.options.linger;
        let over = is_due && fetch.status() == Status::Idle;
        if over {
            remove(&mut fetches, fetch);
        }
        over
    }

    fn forget(&self, fetch: &Arc<SharedFetch>) {
        remove(&mut self.fetches.lock(), fetch);
        // Bytes of a wrong digest: whoever sent them is asked last from now on.
        if let Err(FetchError::Digest(_)) = fetch.result() {
            self.sources.suspects.wrong_digest(fetch.digest, fetch.contributors());
        }
    }

    async fn run_segment(self: Arc<Self>, claim: Claim) -> Result<(), FetchError> {
        let (fetch, blocks) = (&claim.fetch, &claim.segment.blocks);
        let (_permit, purpose) = self.permit(&claim).await?;
        let start = Instant::now();
        let patience = if fetch.is_in_the_midst() { Patience::MIDDLE } else { Patience::START };
        let (sources, bytes) = (self.sources.clone(), fetch.bytes_of(blocks));
        let mut transfer = Transfer::new(sources, fetch.digest, fetch.size, bytes, patience, purpose);
        while let Some((block, from)) = transfer.next().await? {
            transfer.be_patient(Patience::MIDDLE);
            // Whoever reads goes on without the spool, at the same byte.
            if !self.may_spool(fetch.size) {
                return Err(FetchError::Spool("the disk is nearly full".into()));
            }
            fetch.store(block, from).await?;
        }
        fetch.took(blocks.len(), start.elapsed());
        Ok(())
    }

    /// A stream for a run of blocks. What nobody waited for when it was claimed may be waited for by now.
    async fn permit(&self, claim: &Claim) -> Result<(Permit, Purpose), FetchError> {
        let waited = async { Ok((self.streams.waited().await?, Purpose::Waited)) };
        if claim.segment.urgent {
            return waited.await;
        }
        tokio::select! {
            permit = self.streams.background() => Ok((permit?, Purpose::Background)),
            () = claim.fetch.awaited(&claim.segment.blocks) => waited.await,
        }
    }
}

/// A run of blocks that is on its way for as long as this lives.
struct Claim {
    fetch: Arc<SharedFetch>,
    segment: Segment,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.fetch.release(self.segment.blocks.clone());
    }
}

/// What came of joining.
pub(super) enum Shared<T> {
    Joined(T),
    NoRoom,
    Stopping,
}

fn remove(fetches: &mut HashMap<Digest, Arc<SharedFetch>>, fetch: &Arc<SharedFetch>) {
    if fetches.get(&fetch.digest).is_some_and(|f| Arc::ptr_eq(f, fetch)) {
        fetches.remove(&fetch.digest);
    }
}

fn flatten(done: Result<Result<(), FetchError>, tokio::task::JoinError>) -> Result<(), FetchError> {
    done.unwrap_or_else(|error| Err(FetchError::Spool(error.to_string())))
}

//! All blobs on their way.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use atoll_types::{Digest, NodeId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fetch::{FetchError, SharedFetch, Status};
use super::map::Segment;
use super::spool::{Budget, Spool, prepare};
use super::verify::verify;
use crate::ReadThroughOptions;
use crate::keep::{KeepError, Keeper};
use crate::source::{Patience, PeerSources, Transfer, TransferError};

/// Most blobs whose bad sources are remembered.
const SUSPECTS_MAX: usize = 1_024;

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
    pub(super) sources: Arc<PeerSources>,
    keeper: Keeper,
    options: ReadThroughOptions,
    memory: Arc<Budget>,
    disk: Arc<Budget>,
    fetches: Mutex<HashMap<Digest, Arc<SharedFetch>>>,
    /// Streams from other regions, and those of them that no reader waits for.
    pub(super) streams: Arc<Semaphore>,
    background: Arc<Semaphore>,
    /// Sources that contributed to bytes of a wrong digest.
    suspects: Mutex<HashMap<Digest, Vec<NodeId>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
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
            streams: Arc::new(Semaphore::new(options.streams_max.max(2))),
            background: Arc::new(Semaphore::new((options.streams_max / 2).max(1))),
            suspects: Mutex::default(),
            tasks: TaskTracker::new(),
            sources,
            keeper,
            options,
            stop,
        }))
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

    /// Brings a blob into the region's store, for the fetcher: shared with readers where the spool has room.
    pub(crate) async fn fetch(self: &Arc<Self>, digest: Digest, size: u64) -> Result<(), PoolError> {
        let interest = match self.shared(digest, size, |fetch| fetch.interest()).await {
            Shared::Joined(interest) => interest,
            Shared::NoRoom | Shared::Busy => return self.fetch_direct(digest, size).await,
        };
        interest.outcome().await.map(|_| ()).map_err(PoolError::Fetch)
    }

    /// The same for a blob that the spool has no room for.
    async fn fetch_direct(&self, digest: Digest, size: u64) -> Result<(), PoolError> {
        let mut writer = self.keeper.begin(&digest).await?;
        let transfer = Transfer::new(self.sources.clone(), digest, size, 0..size, Patience::MIDDLE);
        let (mut transfer, mut contributors) = (transfer.avoiding(self.suspects_of(&digest)), Vec::new());
        while let Some((block, from)) = transfer.next().await? {
            writer.write(block.data).await.map_err(KeepError::from)?;
            if !contributors.contains(&from) {
                contributors.push(from);
            }
        }
        let kept = self.keeper.finish(writer, &digest).await;
        if matches!(kept, Err(KeepError::Digest(_))) {
            self.suspect(digest, contributors);
        }
        Ok(kept.map(|_| ())?)
    }

    /// Joins the one fetch of a blob, or starts it. `join` runs while the fetch cannot end.
    pub(super) async fn shared<T>(
        self: &Arc<Self>,
        digest: Digest,
        size: u64,
        join: impl Fn(&Arc<SharedFetch>) -> T,
    ) -> Shared<T> {
        {
            let fetches = self.fetches.lock();
            if let Some(fetch) = fetches.get(&digest).filter(|f| f.status() != Status::Ended) {
                return Shared::Joined(join(fetch));
            }
            if fetches.len() >= self.options.blobs_max || self.stop.is_cancelled() {
                return Shared::Busy;
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
        let fetch = SharedFetch::new(digest, size, spool, self.options.read_ahead_bytes);
        let joined = join(&fetch);
        fetches.insert(digest, fetch.clone());
        self.tasks.spawn(self.clone().drive(fetch));
        Shared::Joined(joined)
    }

    /// Runs one fetch: as many streams as it needs and may have, until it has ended or nobody wants it.
    async fn drive(self: Arc<Self>, fetch: Arc<SharedFetch>) {
        let (mut workers, mut verifier) = (JoinSet::new(), JoinSet::new());
        verifier.spawn(verify(fetch.clone(), self.keeper.clone()));
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

    /// Whether nobody has wanted it for so long that it can go; then nobody can join it any more.
    fn is_over(&self, fetch: &Arc<SharedFetch>, idle_since: Instant) -> bool {
        let mut fetches = self.fetches.lock();
        let over = idle_since.elapsed() >= self.options.linger && fetch.status() == Status::Idle;
        if over {
            remove(&mut fetches, fetch);
        }
        over
    }

    fn forget(&self, fetch: &Arc<SharedFetch>) {
        remove(&mut self.fetches.lock(), fetch);
        // Bytes of a wrong digest: whoever sent them is asked last from now on.
        if let Err(FetchError::Digest(_)) = fetch.result() {
            self.suspect(fetch.digest, fetch.contributors());
        }
    }

    async fn run_segment(self: Arc<Self>, claim: Claim) -> Result<(), FetchError> {
        let (fetch, blocks) = (&claim.fetch, &claim.segment.blocks);
        let _background = if claim.segment.urgent { None } else { Some(permit(&self.background).await?) };
        let _stream = permit(&self.streams).await?;
        let start = Instant::now();
        let patience = if fetch.has_any() { Patience::MIDDLE } else { Patience::START };
        let transfer = Transfer::new(self.sources.clone(), fetch.digest, fetch.size, fetch.bytes_of(blocks), patience);
        let mut transfer = transfer.avoiding(self.suspects_of(&fetch.digest));
        while let Some((block, from)) = transfer.next().await? {
            transfer.be_patient(Patience::MIDDLE);
            fetch.store(block, from).await?;
        }
        fetch.took(blocks.len(), start.elapsed());
        Ok(())
    }

    fn suspects_of(&self, digest: &Digest) -> Vec<NodeId> {
        self.suspects.lock().get(digest).cloned().unwrap_or_default()
    }

    fn suspect(&self, digest: Digest, nodes: Vec<NodeId>) {
        tracing::error!(%digest, ?nodes, "the bytes that came do not have the blob's digest; these nodes are asked last from now on: scrub their regions");
        let mut suspects = self.suspects.lock();
        if suspects.len() >= SUSPECTS_MAX {
            suspects.clear();
        }
        let known = suspects.entry(digest).or_default();
        known.extend(nodes);
        known.sort_unstable();
        known.dedup();
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
    Busy,
}

fn remove(fetches: &mut HashMap<Digest, Arc<SharedFetch>>, fetch: &Arc<SharedFetch>) {
    if fetches.get(&fetch.digest).is_some_and(|f| Arc::ptr_eq(f, fetch)) {
        fetches.remove(&fetch.digest);
    }
}

fn permit(of: &Arc<Semaphore>) -> impl Future<Output = Result<OwnedSemaphorePermit, FetchError>> + use<> {
    let acquired = of.clone().acquire_owned();
    async move { acquired.await.map_err(|_| FetchError::Stopped) }
}

fn flatten(done: Result<Result<(), FetchError>, tokio::task::JoinError>) -> Result<(), FetchError> {
    done.unwrap_or_else(|error| Err(FetchError::Spool(error.to_string())))
}

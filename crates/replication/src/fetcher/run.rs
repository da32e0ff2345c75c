//! The loop: level-triggered, from state. A missed wake-up costs time, never a blob.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_metadata::read::{self, Wanted};
use atoll_metadata::{KvError, KvRead};
use atoll_registry::{MetadataGroup, MetadataGroupExt, Mode};
use atoll_types::{Digest, Revision};
use parking_lot::Mutex;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::backoff::Failures;
use super::lease::Lease;
use super::plan::Plan;
use crate::shared::{FetchPool, PoolError};
use crate::{FetcherOptions, LocalNode};

/// Entries of the queue that are read at once.
const PAGE: usize = 64;
/// Most pages that one look at the queue reads; the next look goes on behind them.
const PAGES_MAX: usize = 16;

/// What fails, for whoever asks.
pub(crate) type FailureList = Arc<Mutex<Failures>>;

/// Where the next look at the queue begins; `None` is its head.
type Cursor = Option<(Revision, Digest)>;

/// Works off what the region wants.
pub(crate) struct Fetcher {
    local: LocalNode,
    options: FetcherOptions,
    metadata: Arc<dyn MetadataGroup>,
    pool: Arc<FetchPool>,
    lease: Lease,
    failures: FailureList,
    fetching: HashMap<Digest, u64>,
    running: JoinSet<Result<(), PoolError>>,
    /// Which task fetches what, also for those that are aborted.
    tasks: HashMap<Id, Digest>,
    cursor: Cursor,
}

impl Fetcher {
    pub(crate) fn new(
        local: LocalNode,
        options: FetcherOptions,
        metadata: Arc<dyn MetadataGroup>,
        pool: Arc<FetchPool>,
        lease: Lease,
    ) -> (Self, FailureList) {
        let failures = Arc::new(Mutex::new(Failures::new(options.backoff_min, options.backoff_max)));
        let fetcher = Self {
            local,
            options,
            metadata,
            pool,
            lease,
            failures: failures.clone(),
            fetching: HashMap::new(),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            cursor: None,
        };
        (fetcher, failures)
    }

    /// Works until it is stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Taken before the look: what is applied during it must wake the wait after it.
            let seen = self.metadata.freshness().applied;
            if let Err(error) = self.look() {
                tracing::error!(%error, "the replication queue cannot be read");
            }
            stop.run_until_cancelled(self.wait(seen)).await;
        }
        self.running.shutdown().await;
    }

    /// Looks at the state and starts or stops what it asks for.
    fn look(&mut self) -> Result<(), KvError> {
        while let Some(done) = self.running.try_join_next_with_id() {
            self.finished(done);
        }
        let metadata = self.metadata.clone();
        if !metadata.read(|kv| self.may_fetch(kv))? {
            self.running.abort_all();
            return Ok(());
        }
        let (chosen, cursor) = metadata.read(|kv| self.choose(kv))?;
        self.cursor = cursor;
        for wanted in chosen {
            self.start(wanted);
        }
        Ok(())
    }

    fn may_fetch(&self, kv: &dyn KvRead) -> Result<bool, KvError> {
        let paused = read::region(kv, &self.local.region)?.is_none_or(|r| r.paused);
        Ok(!paused && self.pool.has_room() && self.lease.held() && self.metadata.freshness().mode == Mode::ReadWrite)
    }

    /// What to start, from the head of the queue, or from where the last look ended if all there fails; and where this
    /// look ended, if all that it saw fails.
    fn choose(&self, kv: &dyn KvRead) -> Result<(Vec<Wanted>, Cursor), KvError> {
        let failures = self.failures.lock();
        let reach = self.pool.sources.reach(kv)?;
        let is_out_of_reach = |digest: &Digest| !reach.is_whole() && reach.lacks(kv, digest).unwrap_or(false);
        let mut plan = Plan::new(&self.options, &failures, &is_out_of_reach, &self.fetching, Instant::now());
        let mut after = self.cursor;
        for _ in 0..PAGES_MAX {
            if plan.is_full() {
                return Ok((plan.chosen(), None));
            }
            let page = read::wanted(kv, &self.local.region, after, PAGE)?;
            plan.offer(&page);
            match page.last().filter(|_| page.len() == PAGE) {
                Some(last) => after = Some((last.revision, last.digest)),
                None => return Ok((plan.chosen(), None)),
            }
        }
        Ok((plan.chosen(), after))
    }

    fn start(&mut self, wanted: Wanted) {
        let (pool, digest) = (self.pool.clone(), wanted.digest);
        let beside = self.fetching.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
        self.fetching.insert(digest, wanted.size);
        let task = self.running.spawn(async move { pool.fetch(digest, wanted.size, beside).await });
        self.tasks.insert(task.id(), digest);
    }

    fn finished(&mut self, done: Result<(Id, Result<(), PoolError>), JoinError>) {
        let (id, result) = match done {
            Ok((id, result)) => (id, Some(result)),
            Err(error) if error.is_panic() => (error.id(), Some(Err(PoolError::Panicked(error.to_string())))),
            Err(error) => (error.id(), None),
        };
        let Some(digest) = self.tasks.remove(&id) else { return };
        self.fetching.remove(&digest);
        if let Some(result) = result {
            self.note(digest, result);
        }
    }

    fn note(&self, digest: Digest, result: Result<(), PoolError>) {
        let mut failures = self.failures.lock();
        match result {
            Ok(()) => failures.succeeded(&digest),
            Err(error) => {
                tracing::info!(%digest, %error, "a blob was not fetched; it is tried again");
                failures.failed(digest, error.to_string(), Instant::now());
            }
        }
    }

    /// Waits for whatever may change what there is to do, after a look at a state no older than `seen`.
    async fn wait(&mut self, seen: Revision) {
        let now = Instant::now();
        let tick = now + self.options.tick;
        let until = [self.failures.lock().next_due(now), self.lease.until().filter(|at| *at > now)];
        let until = until.into_iter().flatten().min().unwrap_or(tick).min(tick);
        let next = self.metadata.wait_applied(Revision(seen.0 + 1), until);
        tokio::select! {
            Some(done) = self.running.join_next_with_id() => self.finished(done),
            () = self.lease.changed() => {}
            changed = next => if changed.is_err() {
                // A group that cannot wait must not make this loop spin.
                sleep_until(until).await;
            },
            () = sleep_until(until) => {}
        }
    }
}

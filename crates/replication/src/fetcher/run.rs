//! The loop: level-triggered, from state. A missed wake-up costs time, never a blob.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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
use super::plan::{Plan, Prospects};
use crate::shared::{FetchPool, PoolError};
use crate::{FetcherOptions, LocalNode};

/// Entries of the queue that are read at once.
const PAGE: usize = 64;
/// Most pages that one look at the queue reads behind its head; the next look goes on behind them.
const PAGES_MAX: usize = 16;
/// What is waited before a look goes on behind the head.
const GO_ON_PAUSE: Duration = Duration::from_millis(5);
/// What is waited after a look behind the head that found nothing to do.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// What fails, for whoever asks.
pub(crate) type FailureList = Arc<Mutex<Failures>>;

/// Where looks at the queue have come to: each begins at the head, and goes on there.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// The last entry that was passed by.
    after: Option<(Revision, Digest)>,
    /// Whether that was the end: what comes after it is new, and the rest is passed by again later.
    at_the_end: bool,
}

impl Cursor {
    /// No look is due before something happens.
    const NOTHING_TO_PASS: Self = Self { after: None, at_the_end: true };
}

/// What came of a look.
struct Look {
    chosen: Vec<Wanted>,
    /// Whether any of it will probably come.
    has_hope: bool,
    cursor: Cursor,
}

impl Look {
    fn of(plan: Plan<'_>, cursor: Cursor) -> Self {
        Self { has_hope: plan.has_hope(), chosen: plan.chosen(), cursor }
    }
}

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
    /// When looks may go on behind the head, or begin there once more.
    go_on_at: Instant,
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
            cursor: Cursor::default(),
            go_on_at: Instant::now(),
        };
        (fetcher, failures)
    }

    /// Works until it is stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Taken before the look: what is applied during it must wake the wait after it.
            let seen = self.metadata.freshness().applied;
            if let Err(error) = self.look() {
                self.cursor = Cursor::NOTHING_TO_PASS;
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
            self.cursor = Cursor::NOTHING_TO_PASS;
            return Ok(());
        }
        let now = Instant::now();
        let is_due = now >= self.go_on_at;
        if is_due && self.cursor.at_the_end {
            self.cursor = Cursor::default();
        }
        let look = metadata.read(|kv| self.choose(kv, is_due || self.cursor.at_the_end))?;
        self.cursor = look.cursor;
        match look.cursor.at_the_end {
            true if is_due => self.go_on_at = now + self.options.tick,
            false if look.has_hope => self.go_on_at = now,
            false if is_due && self.has_slots() => self.go_on_at = now + IDLE_PAUSE,
            _ => {}
        }
        for wanted in look.chosen {
            self.start(wanted);
        }
        Ok(())
    }

    fn has_slots(&self) -> bool {
        self.fetching.len() < self.options.concurrency
    }

    fn may_fetch(&self, kv: &dyn KvRead) -> Result<bool, KvError> {
        let paused = read::region(kv, &self.local.region)?.is_none_or(|r| r.paused);
        Ok(!paused && self.pool.has_room() && self.lease.held() && self.metadata.freshness().mode == Mode::ReadWrite)
    }

    /// What to start: from the head of the queue and, if so asked, from where the last look ended; and where this one
    /// ended. What fails, or has no slot, is passed by.
    fn choose(&self, kv: &dyn KvRead, goes_on: bool) -> Result<Look, KvError> {
        let failures = self.failures.lock();
        let reach = self.pool.sources.reach(kv)?;
        let is_out_of_reach = |digest: &Digest| reach.lacks(kv, digest).unwrap_or(false);
        let prospects = Prospects { failures: &failures, is_out_of_reach: &is_out_of_reach };
        let spare_bytes = self.pool.room().spare_bytes();
        let mut plan = Plan::new(&self.options, prospects, spare_bytes, &self.fetching, Instant::now());
        let head = read::wanted(kv, &self.local.region, None, PAGE)?;
        plan.offer(&head);
        if head.len() < PAGE {
            return Ok(Look::of(plan, Cursor { after: last_of(&head), at_the_end: true }));
        }
        let mut cursor = Cursor { after: self.cursor.after.max(last_of(&head)), ..self.cursor };
        for _ in 0..if goes_on { PAGES_MAX } else { 0 } {
            if plan.is_full() {
                break;
            }
            let page = read::wanted(kv, &self.local.region, cursor.after, PAGE)?;
            plan.offer(&page);
            // What is left of a page that filled the plan is looked at again.
            if plan.is_full() {
                cursor.at_the_end = false;
                break;
            }
            cursor = Cursor { after: last_of(&page).or(cursor.after), at_the_end: page.len() < PAGE };
            if cursor.at_the_end {
                break;
            }
        }
        Ok(Look::of(plan, cursor))
    }

    fn start(&mut self, wanted: Wanted) {
        let (pool, digest) = (self.pool.clone(), wanted.digest);
        self.fetching.insert(digest, wanted.size);
        let task = self.running.spawn(async move { pool.fetch(digest, wanted.size).await });
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
        let goes_on = (!self.cursor.at_the_end && self.has_slots()).then(|| self.go_on_at.max(now + GO_ON_PAUSE));
        let until = [self.failures.lock().next_due(now), self.lease.until().filter(|at| *at > now), goes_on];
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

fn last_of(page: &[Wanted]) -> Option<(Revision, Digest)> {
    page.last().map(|last| (last.revision, last.digest))
}

//! How current this node is, and whether it may write: one value, computed from time, so that a task that has stopped
//! cannot leave it stale.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use atoll_fault::planted;
use atoll_types::Revision;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Barriers whose index is not applied yet, at most. Beyond it the newest is replaced.
const WAITING_MAX: usize = 64;

/// Whether writes can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A quorum is in reach.
    ReadWrite,
    /// The node cannot prove that it reaches a quorum.
    ReadOnly,
}

impl Mode {
    /// As in JSON, metrics and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        }
    }
}

/// How current this node's view is.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// The newest revision applied here.
    pub applied: Revision,
    /// The mode.
    pub mode: Mode,
    /// How old the view may be. `None` is unknown: no barrier has succeeded since the start, or this node has answered
    /// a write that it has not applied itself.
    pub staleness: Option<Duration>,
    /// When the node became read-only; `None` while it is not.
    pub read_only_since: Option<SystemTime>,
}

/// What the barriers have proved.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// A quorum proves itself for so long.
    window: Duration,
    started: (Instant, SystemTime),
    proved: Mutex<Proved>,
    changed: Notify,
    mode: watch::Sender<Mode>,
}

#[derive(Debug, Default)]
struct Proved {
    /// Start of the newest barrier that a quorum answered.
    quorum: Option<Instant>,
    /// Start of the newest barrier whose index is applied here.
    current: Option<Instant>,
    /// Barriers whose index is not applied yet: start and index, both ascending.
    waiting: VecDeque<(Instant, u64)>,
}

impl Pulse {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window,
            started: (Instant::now(), SystemTime::now()),
            proved: Mutex::default(),
            changed: Notify::new(),
            mode: watch::Sender::new(Mode::ReadOnly),
        }
    }

    /// A quorum answered a barrier that began at `start`, and named an index.
    pub(crate) fn quorum_reached(&self, start: Instant, index: u64) {
        let mut proved = self.proved.lock();
        proved.quorum = proved.quorum.max(Some(start));
        if proved.waiting.len() >= WAITING_MAX {
            proved.waiting.pop_back();
        }
        proved.waiting.push_back((start, index));
        drop(proved);
        self.changed.notify_one();
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.proof_ends() {
            Some(ends) if Instant::now() < ends => Mode::ReadWrite,
            _ => Mode::ReadOnly,
        }
    }

    /// Tells each change of the mode, at the moment that it happens.
    pub(crate) fn watch_mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// The whole of it, when `applied` is applied here and reads may not see less than `floor`.
    pub(crate) fn freshness(&self, applied: u64, floor: u64) -> Freshness {
        let mode = self.mode();
        let current = self.current_since(applied).filter(|_| applied >= floor);
        Freshness {
            applied: Revision(applied),
            mode,
            staleness: current.map(|start| start.elapsed()).map(understated),
            read_only_since: (mode == Mode::ReadOnly).then(|| self.read_only_since()),
        }
    }

    fn current_since(&self, applied: u64) -> Option<Instant> {
        let mut proved = self.proved.lock();
        while let Some((start, _)) = proved.waiting.pop_front_if(|(_, index)| *index <= applied) {
            proved.current = Some(start);
        }
        proved.current
    }

    fn proof_ends(&self) -> Option<Instant> {
        self.proved.lock().quorum.map(|start| start + self.window)
    }

    fn read_only_since(&self) -> SystemTime {
        let (start, wall) = self.started;
        wall + self.proof_ends().map_or(Duration::ZERO, |ends| ends.saturating_duration_since(start))
    }

    /// Publishes the mode until it is cancelled.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        loop {
            let mode = self.mode();
            if self.mode.send_if_modified(|published| std::mem::replace(published, mode) != mode) {
                tracing::info!(mode = mode.as_str(), "the mode has changed");
            }
            let ends = self.proof_ends().filter(|_| mode == Mode::ReadWrite);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep_until(ends) => {}
            }
        }
    }
}

/// The truth, unless a bug is planted.
fn understated(staleness: Duration) -> Duration {
    if planted!("staleness_understated") { Duration::ZERO } else { staleness }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

//! One node's state: it applies what is committed, at its own pace, and knows how current it is.

use std::sync::Arc;
use std::time::Duration;

use atoll_metadata::MemoryKv;
use atoll_types::Revision;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::apply::apply;
use super::{ANSWER_WAIT, Log, PULSE, QUORUM_WINDOW, State};
use crate::plant::{Plant, is_planted};

/// Revisions between two checkpoints of a node's disk.
const CHECKPOINT_EVERY: u64 = 32;
/// Revisions that are applied at once, at most.
const BATCH_MAX: u64 = 16;
/// How often a node that hears nothing looks again.
const LOOK: Duration = Duration::from_millis(100);

/// A node's state, and what its disk keeps of it.
pub(crate) struct Replica {
    /// Readers keep it as it is, for as long as they look.
    pub(super) kv: Arc<MemoryKv>,
    pub(super) applied: u64,
    checkpoint: (Arc<MemoryKv>, u64),
    pub(super) up: bool,
    /// Its present life.
    life: CancellationToken,
    /// The next sync of its log fails.
    pub(super) sync_fails: bool,
    /// How much later it applies than it could.
    pub(super) late: Duration,
    /// The start of the newest round that a leader answered.
    answered: Option<Instant>,
    /// The start of the newest round whose index is applied here.
    fresh: Option<Instant>,
    /// Rounds that were answered and whose index is not applied yet.
    waiting: Vec<(Instant, u64)>,
    /// Reads are not local before this is applied: an answer has told of it.
    pub(super) hold: u64,
    /// How often somebody was told that the node is read-only.
    pub(super) told_read_only: u64,
    pub(super) changed: watch::Sender<u64>,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            kv: Arc::default(),
            applied: 0,
            checkpoint: (Arc::default(), 0),
            up: false,
            life: CancellationToken::new(),
            sync_fails: false,
            late: Duration::ZERO,
            answered: None,
            fresh: None,
            waiting: Vec::new(),
            hold: 0,
            told_read_only: 0,
            changed: watch::Sender::new(0),
        }
    }
}

impl Replica {
    pub(super) fn start(&mut self, life: &CancellationToken) {
        (self.up, self.life) = (true, life.clone());
    }

    /// It ends itself.
    pub(super) fn end(&mut self) {
        self.up = false;
        self.life.cancel();
    }

    /// Whether its log cannot be synced now.
    pub(super) fn take_failing_sync(&mut self) -> bool {
        std::mem::take(&mut self.sync_fails)
    }

    /// Goes back to what was synced: up to where that is, and up to where it was.
    pub(super) fn crash(&mut self) -> (u64, u64) {
        let (before, (kv, applied)) = (self.applied, self.checkpoint.clone());
        *self = Self {
            kv,
            applied,
            checkpoint: self.checkpoint.clone(),
            late: self.late,
            told_read_only: self.told_read_only + 1,
            ..Self::default()
        };
        (applied, before)
    }

    /// What a crash has left is on the disk.
    pub(super) fn recover(&mut self) {
        self.checkpoint = (self.kv.clone(), self.applied);
        self.changed.send_replace(self.applied);
    }

    /// Whether a quorum was heard of lately.
    pub(super) fn is_read_write(&self) -> bool {
        self.answered.is_some_and(|at| at.elapsed() < QUORUM_WINDOW || is_planted(Plant::NeverReadOnly))
    }

    /// How old its view may be.
    pub(super) fn staleness(&self) -> Option<Duration> {
        self.fresh.filter(|_| self.applied >= self.hold).map(|at| at.elapsed())
    }

    fn answer(&mut self, start: Instant, index: u64) {
        self.answered = self.answered.max(Some(start));
        self.waiting.push((start, index));
        self.settle();
    }

    fn settle(&mut self) {
        let applied = self.applied;
        let settled = self.waiting.iter().filter(|(_, index)| *index <= applied).map(|(start, _)| *start).max();
        self.fresh = self.fresh.max(settled);
        self.waiting.retain(|(_, index)| *index > applied);
    }
}

impl Log {
    /// Applies what is committed and arrives here, for as long as the node lives.
    pub(super) async fn follow(self: &Arc<Self>, node: usize) {
        let mut committed = self.committed.subscribe();
        loop {
            let target = *committed.borrow_and_update();
            if is_planted(Plant::DeadFollower) && node == 2 && target > 150 {
                return;
            }
            match self.route(node, target) {
                Some(delay) => {
                    sleep(delay).await;
                    // What was on its way when the link was cut does not arrive.
                    if self.route(node, target).is_some() {
                        self.advance(node, target);
                    }
                }
                None => drop(timeout(LOOK, committed.changed()).await),
            }
        }
    }

    /// How long what is committed takes to get here; `None` if there is nothing new, or it does not get here.
    fn route(&self, node: usize, target: u64) -> Option<Duration> {
        let state = self.state.lock();
        let (leader, replica) = (state.leader?, &state.replicas[node]);
        let (late, due) = (replica.late, replica.applied < target);
        drop(state);
        if !due {
            return None;
        }
        Some(self.net.carry(leader, node)? + late + Duration::from_millis(1))
    }

    fn advance(&self, node: usize, target: u64) {
        let mut state = self.state.lock();
        if state.replicas[node].take_failing_sync() {
            return self.end(&mut state, node);
        }
        let target = target.min(state.replicas[node].applied + BATCH_MAX);
        self.apply_up_to(&mut state, node, target);
        let replica = &mut state.replicas[node];
        replica.settle();
        replica.changed.send_replace(replica.applied);
    }

    pub(super) fn apply_up_to(&self, state: &mut State, node: usize, target: u64) {
        let State { truth, replicas, .. } = state;
        let replica = &mut replicas[node];
        while replica.applied < target {
            let next = replica.applied + 1;
            let Some(entry) = truth.entry(next) else { break };
            let kv: &mut MemoryKv = Arc::make_mut(&mut replica.kv);
            let skipped = is_planted(Plant::SkippedApply) && node == 1 && next.is_multiple_of(97);
            if skipped {
                replica.applied = next;
                continue;
            }
            if let Err(error) = apply(kv, Revision(next), entry) {
                self.judge.violated("I12", format!("node {node} cannot apply revision {next}: {error}"));
            }
            replica.applied = next;
            if truth.hash_at(next) != Some(replica.kv.hash()) {
                self.judge.violated("I12", format!("node {node} has another state hash at revision {next}"));
            }
            if next.is_multiple_of(CHECKPOINT_EVERY) {
                replica.checkpoint = (replica.kv.clone(), next);
            }
        }
    }

    /// Asks the leader again and again what is committed, for as long as the node lives.
    pub(super) async fn pulse(self: &Arc<Self>, node: usize) {
        loop {
            self.round(node).await;
            sleep(PULSE).await;
        }
    }

    /// One round of the barrier: an index that was committed after it began, if a quorum confirms it.
    pub(super) async fn round(&self, node: usize) -> Option<u64> {
        let start = Instant::now();
        let index = timeout(ANSWER_WAIT, self.read_index(node)).await.ok()??;
        self.state.lock().replicas[node].answer(start, index);
        Some(index)
    }

    async fn read_index(&self, node: usize) -> Option<u64> {
        let leader = self.leader()?;
        sleep(self.net.carry(node, leader)?).await;
        let asked = *self.committed.borrow();
        sleep(self.confirmation(leader)?).await;
        if self.leader() != Some(leader) || !self.in_majority(leader) {
            return None;
        }
        sleep(self.net.carry(leader, node)?).await;
        Some(asked)
    }

    /// How long a majority takes to confirm something to whoever leads.
    pub(super) fn confirmation(&self, leader: usize) -> Option<Duration> {
        let up = self.up();
        let ways = (0..up.len())
            .filter(|other| up[*other])
            .filter_map(|other| Some(self.net.carry(leader, other)? + self.net.carry(other, leader)?));
        let mut ways: Vec<_> = ways.collect();
        ways.sort();
        ways.get(up.len() / 2).copied()
    }
}

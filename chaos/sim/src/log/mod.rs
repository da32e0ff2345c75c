//! The metadata group without Raft: one log, kept by whoever leads and hears a majority, applied by every node at its
//! own pace by the real state machine.
//!
//! It may do all that Raft may: lose a write or its answer, commit one later that nobody was told of, change its leader
//! in mid-write, leave nodes behind, fail barriers, end a node that cannot sync. It never does what Raft must not: a
//! write is committed once, in one order, and what was acknowledged stays.

mod absences;
mod apply;
mod leading;
mod propose;
mod replica;
mod seat;
mod truth;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atoll_metadata::{Command, Entry, Envelope, MemoryKv, Outcome};
use atoll_types::{ClusterId, NodeId, ObjectName, RequestId, Revision};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::judge::Judge;
use crate::net::Net;
use crate::trace::Trace;

pub(crate) use replica::Replica;
pub(crate) use seat::Seat;
pub(crate) use truth::{Lacking, Moment, Truth};

/// The longest election.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(1_000);
/// A node that heard of no quorum for so long is read-only.
pub(crate) const QUORUM_WINDOW: Duration = Duration::from_millis(2_000);
/// How often each node makes sure that it is current.
const PULSE: Duration = Duration::from_millis(250);
/// Longest wait for an answer between nodes.
const ANSWER_WAIT: Duration = Duration::from_millis(1_000);
/// Leader time at the beginning, in milliseconds since the Unix epoch; later than the clock that stands still.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The log and all that apply it.
pub(crate) struct Log {
    pub(crate) cluster: ClusterId,
    state: Mutex<State>,
    committed: watch::Sender<u64>,
    net: Arc<Net>,
    judge: Judge,
    trace: Trace,
    start: Instant,
}

struct State {
    truth: Truth,
    leader: Option<usize>,
    term: u64,
    /// Writes that some nodes have and no majority is known to have: the next leader may or may not keep them.
    limbo: Vec<Write>,
    /// How many writes have come to a leader.
    writes: u64,
    replicas: Vec<Replica>,
    /// What a fault adds to the wall clock of whoever leads, in milliseconds.
    skew_ms: i64,
    /// Whether it ever did.
    was_skewed: bool,
    /// Objects of writes whose outcome nobody was told.
    unknown: BTreeSet<ObjectName>,
    dice: Dice,
}

/// An entry in the log of who led in a term.
struct Write {
    term: u64,
    /// Where it stands in that log, among the others.
    nth: u64,
    entry: Entry,
}

impl Log {
    /// A group of a new cluster; nobody leads, and no node runs yet.
    pub(crate) fn new(net: Arc<Net>, dice: Dice, judge: Judge, trace: Trace) -> Arc<Self> {
        let cluster = ClusterId::from_bytes([7; 16]);
        let replicas = (0..net.nodes()).map(|_| Replica::default()).collect();
        let truth = Truth::new(judge.clone());
        let state = State {
            truth,
            leader: None,
            term: 0,
            limbo: Vec::new(),
            writes: 0,
            replicas,
            skew_ms: 0,
            was_skewed: false,
            unknown: BTreeSet::new(),
            dice,
        };
        let (committed, start) = (watch::Sender::new(0), Instant::now());
        let log = Arc::new(Self { cluster, state: Mutex::new(state), committed, net, judge, trace, start });
        log.must(Command::InitCluster { cluster, epoch: 1 });
        log
    }

    /// Commits a command that must not be refused, before the run or after it.
    pub(crate) fn must(&self, command: Command) {
        let what = format!("{command:?}");
        let seen = Revision(*self.committed.borrow());
        let entry = Entry { time_ms: 0, envelope: self.envelope(RequestId::random(), seen, NodeId(0)), command };
        let (_, applied) = self.commit(&mut self.state.lock(), entry);
        if let Outcome::Rejected(why) = applied {
            self.judge.violated("harness", format!("{what} was refused: {why}"));
        }
    }

    fn envelope(&self, request: RequestId, seen: Revision, origin: NodeId) -> Envelope {
        Envelope {
            request,
            attempt: 0,
            seen,
            actor: String::new(),
            client_address: String::new(),
            origin,
            trace_parent: String::new(),
            cluster: self.cluster,
            epoch: 1,
            feature_level: 1,
        }
    }

    /// The next revision: stamped, applied to the truth, and there for every node.
    fn commit(&self, state: &mut State, mut entry: Entry) -> (u64, Outcome) {
        let wall = EPOCH_MS + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        entry.time_ms = state.truth.stamp(wall.saturating_add_signed(state.skew_ms));
        let (revision, applied) = state.truth.commit(entry, self.trace.now_ms());
        self.committed.send_replace(revision);
        // A request that was answered before is answered again with the revision of then.
        (applied.revision.0, applied.outcome)
    }

    /// How many entries are committed.
    pub(crate) fn revision(&self) -> Revision {
        Revision(*self.committed.borrow())
    }

    /// Looks at the truth: what is committed, whoever has applied it.
    pub(crate) fn truth<R>(&self, look: impl FnOnce(&Truth) -> R) -> R {
        look(&self.state.lock().truth)
    }

    /// What a node has applied, and up to where.
    pub(crate) fn replica<R>(&self, node: usize, look: impl FnOnce(&MemoryKv, u64) -> R) -> R {
        let state = self.state.lock();
        let replica = &state.replicas[node];
        look(&replica.kv, replica.applied)
    }

    /// How often a node was told that it is read-only: what it answered meanwhile may be old.
    pub(crate) fn told_read_only(&self, node: usize) -> u64 {
        self.state.lock().replicas[node].told_read_only
    }

    /// Whether a write that would have named an object has an outcome that nobody was told: it stays.
    pub(crate) fn may_be_named(&self, object: &ObjectName) -> bool {
        self.state.lock().unknown.contains(object)
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        self.state.lock().leader
    }

    /// Who runs.
    pub(crate) fn up(&self) -> Vec<bool> {
        self.state.lock().up()
    }

    /// Whether a node and a majority of those that run hear each other.
    pub(crate) fn in_majority(&self, node: usize) -> bool {
        self.net.has_majority(node, &self.up())
    }

    /// A node runs from now on, with what its disk kept, until its life ends.
    pub(crate) fn join(self: &Arc<Self>, node: usize, life: &CancellationToken) {
        self.state.lock().replicas[node].start(life);
        for task in [true, false] {
            let (log, life) = (self.clone(), life.clone());
            tokio::spawn(async move {
                let run = async { if task { log.follow(node).await } else { log.pulse(node).await } };
                life.run_until_cancelled(run).await;
            });
        }
    }

    /// A node dies. What it applied since its last checkpoint was written and not synced: a beginning of it is left, and
    /// what was torn is not. The log is not gone.
    pub(crate) fn crash(&self, node: usize) {
        let mut state = self.state.lock();
        let (checkpoint, applied) = state.replicas[node].crash();
        let kept = state.dice.between(checkpoint, applied);
        if checkpoint < kept && kept < applied {
            self.judge.fired("state torn by a crash");
        }
        self.apply_up_to(&mut state, node, kept);
        state.replicas[node].recover();
        if state.leader == Some(node) {
            state.leader = None;
        }
    }

    /// The next sync of a node's log fails, or does not.
    pub(crate) fn fail_next_sync(&self, node: usize, fails: bool) {
        self.state.lock().replicas[node].sync_fails = fails;
    }

    /// A node that could not sync its log ends, at once: nobody knows whether what it wrote is there.
    fn end(&self, state: &mut State, node: usize) {
        self.judge.fired("sync of the log failed");
        self.trace.note("log", &format!("{node} cannot sync its log"));
        if state.leader == Some(node) {
            state.leader = None;
        }
        state.replicas[node].end();
    }

    /// Makes a node apply late, by so much for each step; zero ends that.
    pub(crate) fn lag(&self, node: usize, by: Duration) {
        self.state.lock().replicas[node].late = by;
    }

    /// What the wall clock of leaders is off by, in milliseconds.
    pub(crate) fn set_skew(&self, skew_ms: i64) {
        let mut state = self.state.lock();
        state.skew_ms = skew_ms;
        state.was_skewed |= skew_ms != 0;
    }

    /// Whether the leaders' clocks were right all the time: then leader time is virtual time.
    pub(crate) fn has_true_time(&self) -> bool {
        !self.state.lock().was_skewed
    }
}

impl State {
    fn up(&self) -> Vec<bool> {
        self.replicas.iter().map(|replica| replica.up).collect()
    }
}

//! Read barriers: one loop asks the leader for a read index, and all who wait share its rounds.

use std::sync::Arc;

use atoll_fault::planted;
use atoll_proto::metadata::v1::ReadIndexRequest;
use atoll_proto::metadata::v1::metadata_client::MetadataClient;
use openraft::LinearizerOption;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::leader::{Leader, Leaders};
use crate::leadership::Leadership;
use crate::network::{Lane, Peers};
use crate::pulse::{Mode, Pulse};
use crate::raft::Raft;

/// A round that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    round: u64,
    /// What a read must see; `None` when no quorum answered.
    index: Option<u64>,
}

/// Rounds of the loop. At most one runs, and at most one waits.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Rounds that have begun.
    begun: Mutex<u64>,
    ended: watch::Sender<Ended>,
    wanted: Notify,
    pulse: Arc<Pulse>,
}

impl Rounds {
    pub(crate) fn new(pulse: Arc<Pulse>) -> Self {
        Self { begun: Mutex::new(0), ended: watch::Sender::default(), wanted: Notify::new(), pulse }
    }

    /// Asks for a round that begins from now on.
    fn want(&self) -> u64 {
        let next = *self.begun.lock() + 1;
        self.wanted.notify_one();
        next
    }

    /// An index that covers all that was committed anywhere when it was called; `None` without a quorum.
    pub(crate) async fn read_index(&self, deadline: Instant) -> Option<u64> {
        let mut ended = self.ended.subscribe();
        loop {
            let round = self.want();
            let waited = tokio::time::timeout_at(deadline, ended.wait_for(|ended| ended.round >= round)).await;
            let index = match waited {
                Ok(Ok(ended)) => ended.index,
                _ => return None,
            };
            match index {
                Some(index) => return Some(index),
                // Elections are ridden out; a lost quorum is told at once.
                None if self.pulse.mode() == Mode::ReadOnly => return None,
                None => {}
            }
        }
    }
}

/// Runs the rounds.
pub(crate) struct BarrierTask {
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) rounds: Arc<Rounds>,
    pub(crate) leadership: Arc<Leadership>,
}

impl BarrierTask {
    pub(crate) async fn run(self, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.rounds_forever() => {}
        }
    }

    async fn rounds_forever(&self) {
        let interval = self.peers.timing().barrier_interval();
        let mut leaders = Leaders::new(&self.raft);
        loop {
            let start = Instant::now();
            let reached = self.round(&mut leaders).await;
            // A round that fails at once must not spin. After one that reached the quorum not even a sleep of nothing:
            // timers count in milliseconds, and the next round may be waited for already.
            if !reached {
                tokio::time::sleep_until(start + interval / 8).await;
            }
            let _ = tokio::time::timeout_at(start + interval, self.rounds.wanted.notified()).await;
        }
    }

    async fn round(&self, leaders: &mut Leaders) -> bool {
        let round = {
            let mut begun = self.rounds.begun.lock();
            *begun += 1;
            *begun
        };
        let start = Instant::now();
        let timeout = self.peers.timing().election_min;
        let asked = tokio::time::timeout(timeout, self.ask(leaders, start + timeout)).await;
        let index = asked.ok().flatten();
        if let Some(index) = index {
            self.rounds.pulse.quorum_reached(start, index);
        }
        self.rounds.ended.send_replace(Ended { round, index });
        index.is_some()
    }

    async fn ask(&self, leaders: &mut Leaders, deadline: Instant) -> Option<u64> {
        match leaders.wait(deadline).await? {
            Leader::Here => read_index_here(&self.raft, &self.leadership).await.ok(),
            Leader::Peer(node, at) => {
                let channel = self.peers.channel(node, &at.grpc_address, Lane::Read).ok()?;
                let left = deadline.saturating_duration_since(Instant::now());
                let request = ReadIndexRequest { timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) };
                match MetadataClient::new(channel).read_index(request).await {
                    Ok(answer) => Some(answer.into_inner().revision),
                    Err(status) => {
                        tracing::debug!(leader = node, %status, "no read index");
                        None
                    }
                }
            }
        }
    }
}

/// Proves with a quorum that this node leads, and names what a read must see.
///
/// openraft's own proof is not enough: it takes the answer to an append for one to a later append that has nothing new in
/// it. Answers that a link held back until after another leader was elected prove the old one then. So it only names the
/// index, for which a lease will do, and waits for heartbeats where that has run out: whoever led when the proof was begun
/// knew of all that was committed before.
///
/// One after the other: where the lease has run out openraft falls silent for a while, so that voters which it does not
/// hear may elect another. A proof beside that would keep them from it.
pub(crate) async fn read_index_here(raft: &Raft, leadership: &Leadership) -> Result<u64, String> {
    if planted!("read_index_unproved") {
        let applied = raft.metrics().borrow_watched().last_applied;
        return Ok(applied.map_or(0, |id| id.index()));
    }
    let by_lease = LinearizerOption::new(None, true);
    let named = raft.get_read_linearizer(by_lease).await.map_err(|error| error.to_string())?;
    let term = leadership.prove(raft).await?;
    let named = named.read_log_id();
    // Lost and won again in between, it is the index of a lead that was not proved.
    if named.committed_leader_id().term != term {
        return Err("another term has begun meanwhile".to_owned());
    }
    Ok(named.index())
}

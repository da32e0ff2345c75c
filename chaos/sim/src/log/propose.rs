//! Making a write from any node, tried again under the same request id while its outcome is not known: what
//! `consensus` does, over the simulated log.

use std::sync::Arc;

use atoll_metadata::{BlobSource, Command, Entry, Outcome, Rejection};
use atoll_registry::{Applied, Proposal, ProposeError};
use atoll_types::{NodeId, ObjectName, Revision};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::{ANSWER_WAIT, Log, Write};
use crate::plant::{Plant, is_planted};

/// A write is answered before it is applied here when that takes longer.
const APPLY_WAIT: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Share of the writes that are lost on a cut link whose loss the sender notices: no connection could be made.
const NOTICED: f64 = 0.5;

/// How one attempt ended.
enum Attempt {
    Applied(u64, Outcome),
    /// It provably never got into a log.
    Refused(&'static str),
    Unknown(&'static str),
}

impl Log {
    pub(super) async fn propose(self: &Arc<Self>, node: usize, proposal: Proposal) -> Result<Applied, ProposeError> {
        let mut envelope = self.envelope(proposal.request, proposal.seen, NodeId(node as u64));
        envelope.attempt = u32::from(proposal.may_be_retry);
        (envelope.actor, envelope.client_address) = (proposal.actor, proposal.client_address);
        let mut entry = Entry { time_ms: 0, envelope, command: proposal.command };
        let (mut lost, mut refused) = (None, "there is no leader");
        loop {
            let read_write = self.state.lock().replicas[node].is_read_write();
            if !read_write || Instant::now() >= proposal.deadline {
                let refused = if read_write { refused } else { "no quorum is in reach" };
                return Err(self.failure(&entry.command, lost, refused));
            }
            match self.attempt(node, &entry, proposal.deadline).await {
                Attempt::Applied(_, Outcome::Rejected(Rejection::Expired)) if lost.is_some() => {
                    return Err(self.failure(&entry.command, lost, refused));
                }
                Attempt::Applied(revision, outcome) => {
                    return Ok(self.done(node, revision, outcome, proposal.deadline).await);
                }
                Attempt::Refused(why) => refused = why,
                Attempt::Unknown(why) => {
                    entry.envelope.attempt += 1;
                    lost = Some(why);
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(self: &Arc<Self>, node: usize, entry: &Entry, deadline: Instant) -> Attempt {
        let Some(leader) = self.leader() else { return Attempt::Refused("there is no leader") };
        let until = deadline.min(Instant::now() + ANSWER_WAIT);
        match timeout_at(until, self.ask(node, leader, entry)).await {
            Ok(attempt) => attempt,
            Err(_) => {
                self.judge.fired("write without an answer in time");
                Attempt::Unknown("no answer came in time")
            }
        }
    }

    async fn ask(self: &Arc<Self>, node: usize, leader: usize, entry: &Entry) -> Attempt {
        let Some(there) = self.net.carry(node, leader) else {
            if self.state.lock().dice.chance(NOTICED) {
                return Attempt::Refused("the leader cannot be reached");
            }
            std::future::pending::<()>().await;
            return Attempt::Unknown("it was lost on its way");
        };
        sleep(there).await;
        // At the leader: what happens there goes on if who asked has left.
        let (log, entry) = (self.clone(), entry.clone());
        let leading = tokio::spawn(async move { log.lead(leader, entry).await });
        let attempt = leading.await.unwrap_or(Attempt::Unknown("the leader panicked"));
        let Some(back) = self.net.carry(leader, node) else {
            self.judge.fired("answer of a write lost");
            std::future::pending::<()>().await;
            return Attempt::Unknown("its answer was lost");
        };
        sleep(back).await;
        attempt
    }

    /// At the leader: committed once a majority has it.
    async fn lead(&self, leader: usize, entry: Entry) -> Attempt {
        let (term, nth) = {
            let mut state = self.state.lock();
            if state.leader != Some(leader) {
                return Attempt::Refused("that node does not lead");
            }
            state.writes += 1;
            (state.term, state.writes)
        };
        let confirmed = self.confirmation(leader);
        sleep(confirmed.unwrap_or(Duration::from_millis(200))).await;
        let majority = self.in_majority(leader);
        let mut state = self.state.lock();
        let leads = state.leader == Some(leader) && state.term == term;
        if leads && state.replicas[leader].take_failing_sync() {
            self.end(&mut state, leader);
            state.limbo.push(Write { term, nth, entry });
            return Attempt::Unknown("the leader cannot sync its log");
        }
        if leads && majority && confirmed.is_some() {
            if is_planted(Plant::LostWrite) && state.dice.chance(0.02) {
                let (revision, outcome) = state.truth.pretend(&entry);
                return Attempt::Applied(revision, outcome);
            }
            let (revision, outcome) = self.commit(&mut state, entry);
            return Attempt::Applied(revision, outcome);
        }
        state.limbo.push(Write { term, nth, entry });
        self.judge.fired("write left without a majority");
        Attempt::Unknown("the leader lost its majority")
    }

    async fn done(&self, node: usize, revision: u64, outcome: Outcome, deadline: Instant) -> Applied {
        let until = deadline.min(Instant::now() + APPLY_WAIT);
        if !self.wait_applied(node, revision, until).await {
            self.judge.fired("write answered before it was applied");
            let mut state = self.state.lock();
            let hold = &mut state.replicas[node].hold;
            *hold = (*hold).max(revision);
        }
        Applied { revision: Revision(revision), outcome }
    }

    pub(super) async fn wait_applied(&self, node: usize, revision: u64, until: Instant) -> bool {
        let mut changed = self.state.lock().replicas[node].changed.subscribe();
        matches!(timeout_at(until, changed.wait_for(|applied| *applied >= revision)).await, Ok(Ok(_)))
    }

    fn failure(&self, command: &Command, lost: Option<&str>, refused: &str) -> ProposeError {
        match lost {
            Some(why) => {
                self.state.lock().unknown.extend(named(command));
                ProposeError::Unknown(why.to_owned())
            }
            None => ProposeError::NotProposed(refused.to_owned()),
        }
    }
}

/// The objects that a command would have named.
fn named(command: &Command) -> Vec<ObjectName> {
    match command {
        Command::LinkBlob { source: BlobSource::Uploaded { object, .. }, .. } => vec![*object],
        Command::RecordCopies { copies, .. } => copies.iter().map(|copy| copy.object).collect(),
        _ => Vec::new(),
    }
}

//! The proof that this node leads: a quorum says so, each asked after the proof was begun (Ongaro, "Consensus: Bridging
//! Theory and Practice", section 6.4).
//!
//! All proofs share the calls. At most one is on its way to each voter, and none is given up when a proof needs it no
//! more: HTTP/2 counts calls that were taken back, and closes a connection for many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::network::{RPCOption, RaftNetworkV2 as _};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::network::{Lane, Network, Peers};
use crate::raft::types::{Membership, PeerNode, Vote};
use crate::raft::{Raft, Types};

/// Asks the voters for all who want to know whether this node leads.
#[derive(Debug)]
pub(crate) struct Leadership {
    node: u64,
    peers: Arc<Peers>,
    asked: Mutex<Asked>,
    wanted: Notify,
    said: watch::Sender<Said>,
    /// Nobody calls voters any more.
    ended: CancellationToken,
}

/// What the newest proof needs, which is enough for all others.
#[derive(Debug, Default)]
struct Asked {
    vote: Option<Vote>,
    /// An answer counts if it was asked for since.
    since: Option<Instant>,
    voters: BTreeMap<u64, PeerNode>,
    /// Proofs that are waited for.
    waiting: usize,
}

/// The newest word of each voter.
#[derive(Debug, Default)]
struct Said(BTreeMap<u64, Word>);

#[derive(Clone, Copy, Debug)]
struct Word {
    vote: Vote,
    /// Just before it was asked.
    asked: Instant,
    /// It knows of no newer vote.
    agrees: bool,
}

/// A proof that is waited for.
struct Waiting<'a>(&'a Mutex<Asked>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Leadership {
    pub(crate) fn new(node: u64, peers: Arc<Peers>) -> Self {
        let (said, ended) = (watch::Sender::default(), CancellationToken::new());
        Self { node, peers, asked: Mutex::default(), wanted: Notify::new(), said, ended }
    }

    /// Proves that no other node has been elected when it was called, and tells the term in which this one leads. Takes
    /// one round trip to the nearest quorum, and up to another one where calls of earlier proofs are on their way;
    /// whoever calls it bounds the time.
    pub(crate) async fn prove(&self, raft: &Raft) -> Result<u64, String> {
        let state =
            raft.with_raft_state(|state| (*state.vote_ref(), state.membership_state.effective().membership().clone()));
        let (vote, membership) = state.await.map_err(|error| error.to_string())?;
        if !(vote.committed && vote.leader_id.voted_for == self.node) {
            return Err("this node does not lead".to_owned());
        }
        let (since, mut said) = (Instant::now(), self.said.subscribe());
        let _waiting = self.ask(vote, since, &membership);
        let verdict = |said: &Said| said.verdict(&membership, self.node, vote, since);
        tokio::select! {
            known = said.wait_for(|said| verdict(said).is_some()) => {
                match known.ok().and_then(|known| verdict(&known)) {
                    Some(true) => Ok(vote.leader_id.term),
                    _ => Err("too many voters know of a newer vote".to_owned()),
                }
            }
            () = deposed(raft, vote) => Err("this node leads no more".to_owned()),
            () = self.ended.cancelled() => Err("this node stops".to_owned()),
        }
    }

    fn ask(&self, vote: Vote, since: Instant, membership: &Membership) -> Waiting<'_> {
        let mut asked = self.asked.lock();
        asked.waiting += 1;
        asked.since = asked.since.max(Some(since));
        // A proof of an earlier term can fail at most.
        if asked.vote.is_none_or(|known| known.leader_id.term <= vote.leader_id.term) {
            // Other proofs may wait for voters of another membership.
            if asked.vote != Some(vote) || asked.waiting == 1 {
                asked.voters.clear();
            }
            let voters = membership.voter_ids().filter(|peer| *peer != self.node);
            asked.voters.extend(voters.filter_map(|peer| Some((peer, membership.get_node(&peer)?.clone()))));
            asked.vote = Some(vote);
        }
        drop(asked);
        self.wanted.notify_one();
        Waiting(&self.asked)
    }

    /// Calls voters as long as it is not cancelled, and as long as openraft would call them. When its lease has run out it
    /// falls silent, so that voters whom it does not hear may elect another; a call then would keep them from it.
    pub(crate) async fn run(self: Arc<Self>, raft: Raft, cancel: CancellationToken) {
        let _ended = self.ended.clone().drop_guard();
        let mut metrics = raft.metrics();
        let mut calls = FuturesUnordered::new();
        let mut called = BTreeSet::new();
        loop {
            // Without a quorum yet its first call is on its way, or it leads no more and is refused.
            let acked = metrics.borrow_watched().last_quorum_acked.map(|acked| acked.into_inner().elapsed());
            let silent = acked.is_some_and(|age| age >= self.peers.timing().leader_lease());
            for (peer, at, vote) in self.due(&called).into_iter().filter(|_| !silent) {
                called.insert(peer);
                calls.push(self.call(peer, at, vote));
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.wanted.notified() => {}
                Ok(()) = metrics.changed(), if silent => {}
                Some((peer, word)) = calls.next() => {
                    called.remove(&peer);
                    if let Some(word) = word {
                        self.said.send_modify(|said| said.note(peer, word));
                    }
                }
            }
        }
    }

    /// Voters whose word is waited for and not on its way.
    fn due(&self, called: &BTreeSet<u64>) -> Vec<(u64, PeerNode, Vote)> {
        let asked = self.asked.lock();
        let Some((vote, since)) = asked.vote.zip(asked.since).filter(|_| asked.waiting > 0) else { return Vec::new() };
        let said = self.said.borrow();
        let silent = asked.voters.iter().filter(|(peer, _)| !called.contains(peer) && !said.has(**peer, vote, since));
        silent.map(|(peer, at)| (*peer, at.clone(), vote)).collect()
    }

    /// Asks one voter. Where that fails, it is not asked again at once.
    async fn call(&self, peer: u64, at: PeerNode, vote: Vote) -> (u64, Option<Word>) {
        let timing = self.peers.timing();
        let mut client = Network::new(self.peers.clone(), self.node).client(peer, &at, Lane::Heartbeat);
        let asked = Instant::now();
        match client.append_entries(empty_append(vote), RPCOption::new(timing.election_min)).await {
            Ok(answer) => {
                let agrees = !matches!(answer, AppendEntriesResponse::HigherVote(_));
                (peer, Some(Word { vote, asked, agrees }))
            }
            Err(error) => {
                tracing::debug!(peer, %error, "no word of a voter");
                tokio::time::sleep(timing.barrier_interval() / 8).await;
                (peer, None)
            }
        }
    }
}

impl Said {
    fn note(&mut self, peer: u64, word: Word) {
        self.0.insert(peer, word);
    }

    fn has(&self, peer: u64, vote: Vote, since: Instant) -> bool {
        self.0.get(&peer).is_some_and(|word| word.vote == vote && word.asked >= since)
    }

    /// Whether a node leads by a vote, or `None` when too few have said anything since. What was said before does not
    /// count: a voter may forget a newer vote if it dies before that is on its disk.
    fn verdict(&self, membership: &Membership, node: u64, vote: Vote, since: Instant) -> Option<bool> {
        let mut proof = Proof::of(membership, node);
        for (peer, word) in self.0.iter().filter(|(_, word)| word.vote == vote && word.asked >= since) {
            proof.add(*peer, word.agrees);
        }
        proof.verdict()
    }
}

/// Waits until a node leads no more by a vote, or has ended.
async fn deposed(raft: &Raft, vote: Vote) {
    let mut metrics = raft.server_metrics();
    // Its vote counts here when it is on the disk, and it leads only then.
    while metrics.borrow_watched().vote <= vote {
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// What changes nothing, and is refused where there is a newer vote.
fn empty_append(vote: Vote) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None }
}

/// Who has said so, and who otherwise: it takes more than half of the voters, or of each set of them while the membership
/// changes.
#[derive(Debug)]
struct Proof {
    voters: Vec<BTreeSet<u64>>,
    agreed: BTreeSet<u64>,
    disagreed: BTreeSet<u64>,
}

impl Proof {
    /// Of a node that has said so itself.
    fn of(membership: &Membership, node: u64) -> Self {
        let voters = membership.get_joint_config().clone();
        Self { voters, agreed: BTreeSet::from([node]), disagreed: BTreeSet::new() }
    }

    fn add(&mut self, node: u64, agrees: bool) {
        if agrees {
            self.agreed.insert(node)
        } else {
            self.disagreed.insert(node)
        };
    }

    /// `None` while it depends on those who have said nothing.
    fn verdict(&self) -> Option<bool> {
        let mut sets = self.voters.iter();
        if sets.clone().all(|set| set.intersection(&self.agreed).count() > set.len() / 2) {
            return Some(true);
        }
        let is_lost = |set: &BTreeSet<u64>| set.len() - set.intersection(&self.disagreed).count() <= set.len() / 2;
        sets.any(is_lost).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(voters: &[&[u64]], agreed: &[u64], disagreed: &[u64]) -> Option<bool> {
        let voters = voters.iter().map(|set| set.iter().copied().collect()).collect();
        let [agreed, disagreed] = [agreed, disagreed].map(|nodes| nodes.iter().copied().collect());
        Proof { voters, agreed, disagreed }.verdict()
    }

    #[test]
    fn more_than_half_of_each_set_must_say_so() {
        assert_eq!(verdict(&[&[1]], &[1], &[]), Some(true));
        assert_eq!(verdict(&[&[1, 2, 3]], &[1], &[]), None);
        assert_eq!(verdict(&[&[1, 2, 3]], &[1, 3], &[]), Some(true));
        assert_eq!(verdict(&[&[1, 2, 3, 4]], &[1, 2], &[]), None);
        assert_eq!(verdict(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3], &[]), None);
        assert_eq!(verdict(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 4], &[]), Some(true));
        // A learner has no say, nor has a leader that is none of the voters.
        assert_eq!(verdict(&[&[1, 2, 3]], &[7, 8, 1], &[]), None);
    }

    #[test]
    fn one_voter_that_knows_of_a_newer_vote_decides_nothing() {
        assert_eq!(verdict(&[&[1, 2, 3]], &[1], &[2]), None);
        assert_eq!(verdict(&[&[1, 2, 3]], &[1, 3], &[2]), Some(true));
        assert_eq!(verdict(&[&[1, 2, 3]], &[1], &[2, 3]), Some(false));
        // Two of four leave no majority to the other two.
        assert_eq!(verdict(&[&[1, 2, 3, 4]], &[1], &[3, 4]), Some(false));
        assert_eq!(verdict(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3], &[4, 5]), Some(false));
        assert_eq!(verdict(&[&[1, 2, 3]], &[1], &[7, 8]), None);
    }
}

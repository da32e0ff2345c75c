//! The proof that this node leads: a quorum says so, each asked after the proof was begun (Ongaro, "Consensus: Bridging
//! Theory and Practice", section 6.4).
//!
//! All proofs share the calls. At most one is on its way to each voter, and none is given up when a proof needs it no
//! more: HTTP/2 counts calls that were taken back, and closes a connection for many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
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
        Self { node, peers, asked: Mutex::default(), wanted: Notify::new(), said: watch::Sender::default() }
    }

    /// Proves that no other node has been elected when it was called, and tells the term in which this one leads. Takes
    /// one round trip to the nearest quorum; whoever calls it bounds the time.
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
        let known = said.wait_for(|said| verdict(said).is_some()).await.map_err(|error| error.to_string())?;
        match verdict(&known) {
            Some(true) => Ok(vote.leader_id.term),
            _ => Err("a voter knows of a newer vote".to_owned()),
        }
    }

    fn ask(&self, vote: Vote, since: Instant, membership: &Membership) -> Waiting<'_> {
        let mut asked = self.asked.lock();
        asked.waiting += 1;
        asked.since = asked.since.max(Some(since));
        // A proof of an earlier term can fail at most.
        if asked.vote.is_none_or(|known| known.leader_id.term <= vote.leader_id.term) {
            let voters = membership.voter_ids().filter(|peer| *peer != self.node);
            asked.voters = voters.filter_map(|peer| Some((peer, membership.get_node(&peer)?.clone()))).collect();
            asked.vote = Some(vote);
        }
        drop(asked);
        self.wanted.notify_one();
        Waiting(&self.asked)
    }

    /// Calls voters as long as it is not cancelled.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut calls = FuturesUnordered::new();
        let mut called = BTreeSet::new();
        loop {
            for (peer, at, vote) in self.due(&called) {
                called.insert(peer);
                calls.push(self.call(peer, at, vote));
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.wanted.notified() => {}
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

    /// Whether a node leads by a vote, or `None` when too few have said so since. Who once knew of a newer vote will not
    /// forget it.
    fn verdict(&self, membership: &Membership, node: u64, vote: Vote, since: Instant) -> Option<bool> {
        let mut proof = Proof::of(membership, node);
        for (peer, word) in self.0.iter().filter(|(_, word)| word.vote == vote) {
            match word.agrees {
                true if word.asked >= since => proof.add(*peer),
                true => {}
                false => return Some(false),
            }
        }
        proof.is_complete().then_some(true)
    }
}

/// What changes nothing, and is refused where there is a newer vote.
fn empty_append(vote: Vote) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None }
}

/// Who has said so: more than half of the voters, or of each set of them while the membership changes.
#[derive(Debug)]
struct Proof {
    voters: Vec<BTreeSet<u64>>,
    agreed: BTreeSet<u64>,
}

impl Proof {
    /// Of a node that has said so itself.
    fn of(membership: &Membership, node: u64) -> Self {
        Self { voters: membership.get_joint_config().clone(), agreed: BTreeSet::from([node]) }
    }

    fn add(&mut self, node: u64) {
        self.agreed.insert(node);
    }

    fn is_complete(&self) -> bool {
        self.voters.iter().all(|set| set.intersection(&self.agreed).count() > set.len() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(voters: &[&[u64]], agreed: &[u64]) -> Proof {
        let voters = voters.iter().map(|set| set.iter().copied().collect()).collect();
        Proof { voters, agreed: agreed.iter().copied().collect() }
    }

    #[test]
    fn more_than_half_of_each_set_must_say_so() {
        assert!(proof(&[&[1]], &[1]).is_complete());
        assert!(!proof(&[&[1, 2, 3]], &[1]).is_complete());
        assert!(proof(&[&[1, 2, 3]], &[1, 3]).is_complete());
        assert!(!proof(&[&[1, 2, 3, 4]], &[1, 2]).is_complete());
        assert!(!proof(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]).is_complete());
        assert!(proof(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 4]).is_complete());
        // A learner has no say, nor has a leader that is none of the voters.
        assert!(!proof(&[&[1, 2, 3]], &[7, 8, 1]).is_complete());
    }
}

//! The proof that this node leads: a quorum says so, each asked after the proof was begun (Ongaro, "Consensus: Bridging
//! Theory and Practice", section 6.4).

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use openraft::network::{RPCOption, RaftNetworkV2 as _};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::network::{Lane, Network, Peers};
use crate::raft::types::{Membership, Vote};
use crate::raft::{Raft, Types};

/// Proves that no other node has been elected when it was called, and tells the term in which this one leads. Takes one
/// round trip to the nearest quorum; whoever calls it bounds the time.
pub(crate) async fn prove(raft: &Raft, peers: &Arc<Peers>) -> Result<u64, String> {
    let state =
        raft.with_raft_state(|state| (*state.vote_ref(), state.membership_state.effective().membership().clone()));
    let (vote, membership) = state.await.map_err(|error| error.to_string())?;
    let node = *raft.node_id();
    if !(vote.committed && vote.leader_id.voted_for == node) {
        return Err("this node does not lead".to_owned());
    }
    let mut proof = Proof::of(&membership, node);
    let asked = membership.nodes().filter(|(peer, _)| **peer != node && proof.counts(**peer));
    let network = Network::new(peers.clone(), node);
    let timeout = RPCOption::new(peers.timing().election_min);
    let mut answers: FuturesUnordered<_> = asked
        .map(|(peer, at)| {
            let (mut client, timeout) = (network.client(*peer, at, Lane::Heartbeat), timeout.clone());
            async move {
                let answer = client.append_entries(empty_append(vote), timeout).await;
                // It knows of no newer vote, as of a moment after it was asked.
                (*peer, answer.is_ok_and(|answer| !matches!(answer, AppendEntriesResponse::HigherVote(_))))
            }
        })
        .collect();
    while !proof.is_complete() {
        match answers.next().await {
            Some((peer, true)) => proof.add(peer),
            Some((_, false)) => {}
            None => return Err("no quorum says that this node leads".to_owned()),
        }
    }
    Ok(vote.leader_id.term)
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

    fn counts(&self, node: u64) -> bool {
        self.voters.iter().any(|set| set.contains(&node))
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

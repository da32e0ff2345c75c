//! Raft's words as messages: on the wire, in the log and in snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use atoll_proto::raft::v1 as wire;
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;
use prost::Message;

use super::types::{EncodedEntry, Entry, LogId, Membership, PeerNode, StoredMembership, Vote};

/// What cannot be a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no valid {0}")]
pub(crate) struct InvalidMessage(pub(crate) &'static str);

impl From<InvalidMessage> for io::Error {
    fn from(error: InvalidMessage) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl From<InvalidMessage> for tonic::Status {
    fn from(error: InvalidMessage) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

type Decoded<T> = Result<T, InvalidMessage>;

pub(crate) fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.committed_leader_id().term, index: id.index() }
}

pub(crate) fn log_id_of(id: wire::LogId) -> LogId {
    // The node does not matter: a term has one leader, and only the term is kept.
    let leader = openraft::alias::LeaderIdOf::<super::types::Types>::new(id.term, 0);
    LogId::new(leader.to_committed(), id.index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_of(vote: Option<wire::Vote>) -> Decoded<Vote> {
    let vote = vote.ok_or(InvalidMessage("vote"))?;
    Ok(if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) })
}

pub(crate) fn membership_to_wire(membership: &Membership) -> wire::Membership {
    let set = |nodes: &BTreeSet<u64>| wire::VoterSet { nodes: nodes.iter().copied().collect() };
    let node = |(id, node): (&u64, &PeerNode)| wire::Node {
        id: *id,
        name: node.name.clone(),
        region: node.region.clone(),
        grpc_address: node.grpc_address.clone(),
    };
    wire::Membership {
        voters: membership.get_joint_config().iter().map(set).collect(),
        nodes: membership.nodes().map(node).collect(),
    }
}

pub(crate) fn membership_of(membership: wire::Membership) -> Decoded<Membership> {
    let voters: Vec<BTreeSet<u64>> = membership.voters.into_iter().map(|set| set.nodes.into_iter().collect()).collect();
    let node = |node: wire::Node| {
        (node.id, PeerNode { name: node.name, region: node.region, grpc_address: node.grpc_address })
    };
    let nodes: BTreeMap<u64, PeerNode> = membership.nodes.into_iter().map(node).collect();
    if voters.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, nodes).map_err(|_| InvalidMessage("membership"))
}

pub(crate) fn entry_to_wire(entry: &Entry) -> wire::LogEntry {
    use wire::log_entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(wire::Blank {}),
        EntryPayload::Normal(command) => Payload::Command(command.0.clone()),
        EntryPayload::Membership(membership) => Payload::Membership(membership_to_wire(membership)),
    };
    wire::LogEntry { log_id: Some(log_id_to_wire(&entry.log_id)), payload: Some(payload) }
}

pub(crate) fn entry_of(entry: wire::LogEntry) -> Decoded<Entry> {
    use wire::log_entry::Payload;
    let payload = match entry.payload.ok_or(InvalidMessage("payload"))? {
        Payload::Blank(_) => EntryPayload::Blank,
        Payload::Command(bytes) => EntryPayload::Normal(EncodedEntry(bytes)),
        Payload::Membership(membership) => EntryPayload::Membership(membership_of(membership)?),
    };
    Ok(Entry { log_id: log_id_of(entry.log_id.ok_or(InvalidMessage("log id"))?), payload })
}

/// An entry as it is stored.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    entry_to_wire(entry).encode_to_vec().into()
}

pub(crate) fn decode_entry(bytes: Bytes) -> io::Result<Entry> {
    Ok(entry_of(wire::LogEntry::decode(bytes)?)?)
}

pub(crate) fn encode_log_id(id: &LogId) -> Vec<u8> {
    log_id_to_wire(id).encode_to_vec()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> io::Result<LogId> {
    Ok(log_id_of(wire::LogId::decode(bytes)?))
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    vote_to_wire(vote).encode_to_vec()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    Ok(vote_of(Some(wire::Vote::decode(bytes)?))?)
}

pub(crate) fn encode_membership(stored: &StoredMembership) -> Vec<u8> {
    wire::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
    .encode_to_vec()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> io::Result<StoredMembership> {
    let stored = wire::StoredMembership::decode(bytes)?;
    let membership = membership_of(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_of), membership))
}

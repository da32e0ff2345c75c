//! What stands in logs and snapshots, to the byte: an encoding that has landed only grows.

use openraft::EntryPayload;

use super::codec;
use super::testing::{log_id, membership};
use super::types::{EncodedEntry, Entry, Membership, PeerNode, StoredMembership, Vote};
use crate::golden::check;

fn entry(payload: EntryPayload<EncodedEntry, u64, PeerNode>) -> Entry {
    Entry { log_id: log_id(3, 300), payload }
}

/// As while the voters change: two sets, and a learner.
fn joint() -> Membership {
    let nodes: std::collections::BTreeMap<u64, PeerNode> =
        membership(&[1, 2, 3, 4], &[5]).nodes().map(|(id, node)| (*id, node.clone())).collect();
    Membership::new(vec![[1, 2, 3].into(), [2, 3, 4].into()], nodes).expect("a membership")
}

#[test]
fn entries_are_stored_as_they_landed() {
    let entries = [
        ("blank", entry(EntryPayload::Blank)),
        ("command", entry(EntryPayload::Normal(EncodedEntry(b"a command".as_slice().into())))),
        ("empty command", entry(EntryPayload::Normal(EncodedEntry(Default::default())))),
        ("membership", entry(EntryPayload::Membership(membership(&[1, 2, 3], &[])))),
        ("joint membership", entry(EntryPayload::Membership(joint()))),
        ("first", Entry { log_id: log_id(0, 0), payload: EntryPayload::Membership(membership(&[1], &[])) }),
    ];
    let encoded = entries.iter().map(|(name, entry)| (*name, codec::encode_entry(entry).to_vec()));
    for (landed, (name, entry)) in check(include_str!("golden/entries.txt"), encoded).into_iter().zip(&entries) {
        assert_eq!(codec::decode_entry(landed.into()).expect("decoded"), *entry, "{name}");
    }
}

#[test]
fn votes_are_stored_as_they_landed() {
    let votes = [
        ("never voted", Vote::new(0, 1)),
        ("vote", Vote::new(7, 2)),
        ("committed vote", Vote::new_committed(7, 2)),
        ("large", Vote::new_committed(u64::MAX, u64::MAX)),
    ];
    let encoded = votes.iter().map(|(name, vote)| (*name, codec::encode_vote(vote)));
    for (landed, (name, vote)) in check(include_str!("golden/votes.txt"), encoded).into_iter().zip(&votes) {
        assert_eq!(codec::decode_vote(&landed).expect("decoded"), *vote, "{name}");
    }
}

#[test]
fn committed_and_purged_log_ids_are_stored_as_they_landed() {
    let ids = [("first", log_id(0, 0)), ("committed", log_id(3, 300)), ("large", log_id(u64::MAX, u64::MAX))];
    let encoded = ids.iter().map(|(name, id)| (*name, codec::encode_log_id(id)));
    for (landed, (name, id)) in check(include_str!("golden/log_ids.txt"), encoded).into_iter().zip(&ids) {
        assert_eq!(codec::decode_log_id(&landed).expect("decoded"), *id, "{name}");
    }
}

#[test]
fn memberships_are_stored_as_they_landed() {
    let stored = [
        ("none", StoredMembership::default()),
        ("voters", StoredMembership::new(Some(log_id(0, 0)), membership(&[1, 2, 3], &[]))),
        ("with a learner", StoredMembership::new(Some(log_id(3, 300)), membership(&[1, 2], &[9]))),
        ("joint", StoredMembership::new(Some(log_id(3, 301)), joint())),
    ];
    let encoded = stored.iter().map(|(name, stored)| (*name, codec::encode_membership(stored)));
    for (landed, (name, stored)) in check(include_str!("golden/memberships.txt"), encoded).into_iter().zip(&stored) {
        assert_eq!(codec::decode_membership(&landed).expect("decoded"), *stored, "{name}");
    }
}

//! What the tests of this crate make messages of.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::codec;
use super::types::{LogId, Membership, PeerNode};

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    codec::log_id_of(atoll_proto::raft::v1::LogId { term, index })
}

pub(crate) fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    let node = |id: &u64| {
        let node =
            PeerNode { name: format!("n{id}"), region: "here".to_owned(), grpc_address: format!("127.0.0.1:{id}") };
        (*id, node)
    };
    let nodes: BTreeMap<u64, PeerNode> = voters.iter().chain(learners).map(node).collect();
    Membership::new(vec![voters.iter().copied().collect()], nodes).expect("a membership")
}

/// Valid bytes with some of them changed, taken away or added: they come further into a decoder than random ones.
pub(crate) fn damaged(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6);
    changes.prop_map(move |changes| {
        let mut bytes = valid.clone();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

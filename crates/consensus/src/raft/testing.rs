//! What the tests of this crate make messages of.

use std::collections::BTreeMap;

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

//! What a peer of another mind may send makes no conversion panic, and no gap gets into the log.

use atoll_proto::raft::v1 as wire;
use openraft::raft::TransferLeaderRequest;
use proptest::prelude::*;
use prost::Message;

use super::golden_tests::{append, leader};
use super::messages;
use crate::raft::Types;
use crate::raft::codec::vote_to_wire;
use crate::raft::testing::damaged;

/// Decodes bytes as each message that a peer may send, and takes each for what it says.
fn receive(bytes: &[u8]) {
    let request = TransferLeaderRequest::<Types>::new(leader(), 1, None);
    if let Ok(append) = wire::AppendEntriesRequest::decode(bytes) {
        let _ = messages::append_of(append);
    }
    if let Ok(answer) = wire::AppendEntriesResponse::decode(bytes) {
        let _ = messages::append_result_of(answer);
        let _ = messages::append_response_of(answer);
    }
    if let Ok(vote) = wire::VoteRequest::decode(bytes) {
        let _ = messages::vote_request_of(vote);
    }
    if let Ok(vote) = wire::VoteResponse::decode(bytes) {
        let _ = messages::vote_response_of(vote);
    }
    if let Ok(transfer) = wire::TransferLeaderRequest::decode(bytes) {
        let _ = messages::transfer_request_of(transfer);
    }
    if let Ok(answer) = wire::TransferLeaderResponse::decode(bytes) {
        let _ = messages::transfer_response_of(answer, &request);
    }
}

fn any_log_id() -> impl Strategy<Value = Option<wire::LogId>> {
    let extreme = prop_oneof![Just(u64::MAX), Just(u64::MAX - 1), Just(0), any::<u64>()];
    prop::option::of((any::<u64>(), extreme).prop_map(|(term, index)| wire::LogId { term, index }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_bytes_of_a_peer_make_a_conversion_panic(bytes: Vec<u8>) {
        receive(&bytes);
    }

    #[test]
    fn no_damaged_append_makes_a_conversion_panic(bytes in damaged(messages::append_to_wire(&append()).encode_to_vec())) {
        receive(&bytes);
    }

    #[test]
    fn an_append_with_a_gap_is_refused(previous in any_log_id(), ids in proptest::collection::vec(any_log_id(), 0..4)) {
        let entry = |log_id| wire::LogEntry {
            log_id,
            payload: Some(wire::log_entry::Payload::Blank(wire::Blank {})),
        };
        let rpc = wire::AppendEntriesRequest {
            vote: Some(vote_to_wire(&leader())),
            previous,
            entries: ids.iter().map(|id| entry(*id)).collect(),
            committed: None,
        };
        if let Ok(valid) = messages::append_of(rpc) {
            let mut before = valid.prev_log_id.map(|id| id.index());
            for entry in valid.entries {
                let due = before.map_or(Some(0), |index| index.checked_add(1));
                prop_assert_eq!(due, Some(entry.log_id.index()));
                before = due;
            }
        }
    }
}

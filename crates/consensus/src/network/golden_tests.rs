//! Messages between nodes, to the byte and both ways: an encoding that has landed only grows.

use atoll_proto::metadata::v1 as metadata;
use atoll_proto::raft::v1 as wire;
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use prost::Message;

use super::messages;
use crate::golden::check;
use crate::raft::Types;
use crate::raft::codec::{log_id_to_wire, vote_to_wire};
use crate::raft::testing::{log_id, membership};
use crate::raft::types::{EncodedEntry, Entry, Vote};

pub(super) fn leader() -> Vote {
    Vote::new_committed(3, 2)
}

pub(super) fn append() -> AppendEntriesRequest<Types> {
    let entry = |index, payload| Entry { log_id: log_id(3, index), payload };
    AppendEntriesRequest {
        vote: leader(),
        prev_log_id: Some(log_id(2, 9)),
        entries: vec![
            entry(10, EntryPayload::Blank),
            entry(11, EntryPayload::Normal(EncodedEntry(Bytes::from_static(b"a command")))),
            entry(12, EntryPayload::Membership(membership(&[1, 2, 3], &[4]))),
        ],
        leader_commit: Some(log_id(2, 8)),
    }
}

fn first_append() -> AppendEntriesRequest<Types> {
    AppendEntriesRequest { vote: leader(), prev_log_id: None, entries: Vec::new(), leader_commit: None }
}

#[test]
fn appends_travel_as_they_landed() {
    let appends = [("append", append()), ("at the very beginning", first_append())];
    let encoded = appends.iter().map(|(name, rpc)| (*name, messages::append_to_wire(rpc).encode_to_vec()));
    for (landed, (name, rpc)) in check(include_str!("golden/appends.txt"), encoded).iter().zip(&appends) {
        let decoded = wire::AppendEntriesRequest::decode(landed.as_slice()).expect("decoded");
        let again = messages::append_of(decoded).expect("valid");
        assert_eq!(format!("{again:?}"), format!("{rpc:?}"), "{name}");
        assert_eq!(again.entries, rpc.entries, "{name}");
    }
}

#[test]
fn answers_to_appends_travel_as_they_landed() {
    let results = [
        ("matched", Ok(Some(log_id(3, 12)))),
        ("matched nothing", Ok(None)),
        ("conflict", Err(StreamAppendError::Conflict(log_id(2, 9)))),
        ("higher vote", Err(StreamAppendError::HigherVote(Vote::new(4, 1)))),
    ];
    let encoded =
        results.iter().map(|(name, result)| (*name, messages::append_result_to_wire(result.clone()).encode_to_vec()));
    for (landed, (name, result)) in check(include_str!("golden/append_results.txt"), encoded).iter().zip(&results) {
        let decoded = wire::AppendEntriesResponse::decode(landed.as_slice()).expect("decoded");
        let again = messages::append_result_of(decoded).expect("valid");
        assert_eq!(format!("{again:?}"), format!("{result:?}"), "{name}");
    }
}

#[test]
fn answers_to_single_appends_travel_as_they_landed() {
    let (previous, last) = (Some(log_id_to_wire(&log_id(2, 9))), Some(log_id_to_wire(&log_id(3, 12))));
    let responses = [
        ("success", AppendEntriesResponse::Success),
        ("partial success", AppendEntriesResponse::PartialSuccess(Some(log_id(3, 10)))),
        ("conflict", AppendEntriesResponse::Conflict),
        ("higher vote", AppendEntriesResponse::HigherVote(Vote::new(4, 1))),
    ];
    let encoded = responses
        .into_iter()
        .map(|(name, response)| (name, messages::append_response_to_wire(response, previous, last).encode_to_vec()));
    let landed = check(include_str!("golden/append_responses.txt"), encoded);
    let decoded = landed.iter().map(|bytes| {
        let response = wire::AppendEntriesResponse::decode(bytes.as_slice()).expect("decoded");
        format!("{:?}", messages::append_response_of(response).expect("valid"))
    });
    let expected: [AppendEntriesResponse<Types>; 4] = [
        // A success names what matched.
        AppendEntriesResponse::PartialSuccess(Some(log_id(3, 12))),
        AppendEntriesResponse::PartialSuccess(Some(log_id(3, 10))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(Vote::new(4, 1)),
    ];
    assert_eq!(decoded.collect::<Vec<_>>(), expected.map(|response| format!("{response:?}")));
}

#[test]
fn votes_travel_as_they_landed() {
    let mut transfer = VoteRequest::<Types>::new(Vote::new(4, 1), Some(log_id(3, 12)));
    transfer.leadership_transfer = true;
    let requests = [("request", transfer), ("first request", VoteRequest::new(Vote::new(1, 1), None))];
    let encoded = requests.iter().map(|(name, rpc)| (*name, messages::vote_request_to_wire(rpc).encode_to_vec()));
    for (landed, (name, rpc)) in check(include_str!("golden/vote_requests.txt"), encoded).iter().zip(&requests) {
        let decoded = wire::VoteRequest::decode(landed.as_slice()).expect("decoded");
        assert_eq!(messages::vote_request_of(decoded).expect("valid"), *rpc, "{name}");
    }
    let responses = [
        ("granted", VoteResponse::<Types>::new(Vote::new(4, 1), Some(log_id(3, 12)), true)),
        ("refused", VoteResponse::new(leader(), None, false)),
    ];
    let encoded = responses.iter().map(|(name, rpc)| (*name, messages::vote_response_to_wire(rpc).encode_to_vec()));
    for (landed, (name, rpc)) in check(include_str!("golden/vote_responses.txt"), encoded).iter().zip(&responses) {
        let decoded = wire::VoteResponse::decode(landed.as_slice()).expect("decoded");
        assert_eq!(messages::vote_response_of(decoded).expect("valid"), *rpc, "{name}");
    }
}

#[test]
fn leader_transfers_travel_as_they_landed() {
    let request = TransferLeaderRequest::<Types>::new(leader(), 1, Some(log_id(3, 12)));
    let encoded = wire::TransferLeaderRequest {
        from: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to_wire),
    };
    let landed = check(include_str!("golden/transfers.txt"), [("request", encoded.encode_to_vec())].into_iter());
    let decoded = wire::TransferLeaderRequest::decode(landed[0].as_slice()).expect("decoded");
    assert_eq!(messages::transfer_request_of(decoded).expect("valid"), request);

    let answers = [
        Ok(()),
        Err(TransferLeaderError::VoteChanged { expected: leader(), actual: Vote::new(4, 1) }),
        Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(3, 12)), actual: Some(log_id(3, 11)) }),
    ];
    for answer in answers {
        let sent = messages::transfer_response_to_wire(&answer).encode_to_vec();
        let received = wire::TransferLeaderResponse::decode(sent.as_slice()).expect("decoded");
        let again = messages::transfer_response_of(received, &request).expect("valid");
        assert_eq!(format!("{again:?}"), format!("{answer:?}"));
    }
}

fn file() -> wire::FileProgress {
    wire::FileProgress { name: "000012.sst".to_owned(), received: 700, size: 4_096 }
}

#[test]
fn snapshots_travel_as_they_landed() {
    let manifest = Bytes::from_static(b"{}");
    let vote = Some(vote_to_wire(&leader()));
    let start = wire::SnapshotStart { vote, manifest: manifest.clone() };
    let chunk = wire::SnapshotChunk {
        start: None,
        file: "000012.sst".to_owned(),
        offset: 700,
        data: Bytes::from_static(b"bytes"),
        crc: 0xdead_beef,
    };
    let messages = [
        ("begin", wire::BeginSnapshotRequest { vote, manifest }.encode_to_vec()),
        ("begun", wire::BeginSnapshotResponse { files: vec![file()], higher_vote: None }.encode_to_vec()),
        ("not begun", wire::BeginSnapshotResponse { files: Vec::new(), higher_vote: vote }.encode_to_vec()),
        ("first chunk", wire::SnapshotChunk { start: Some(start), ..Default::default() }.encode_to_vec()),
        ("chunk", chunk.encode_to_vec()),
        ("sent", wire::SendSnapshotResponse { vote, incomplete: Vec::new() }.encode_to_vec()),
        (
            "not whole",
            wire::SendSnapshotResponse { vote: None, incomplete: vec!["CURRENT".to_owned()] }.encode_to_vec(),
        ),
    ];
    check(include_str!("golden/snapshots.txt"), messages.into_iter());
}

#[test]
fn forwarded_writes_and_barriers_travel_as_they_landed() {
    use metadata::propose_response::Result as Answered;
    let refusal = metadata::Refusal { reason: "this node does not lead".to_owned(), leader: 2, r#final: true };
    let answer = |result, index| metadata::ProposeResponse { result: Some(result), index }.encode_to_vec();
    let status = metadata::StatusResponse {
        node: 1,
        name: "us-east-1".to_owned(),
        region: "us-east".to_owned(),
        applied: 7,
        term: 3,
        leader: 2,
        read_write: true,
        staleness_ms: Some(12),
        pid: 99,
        hash_revision: 7,
        state_hash: Bytes::from(vec![9; 16]),
        feature_level: 1,
        last_log: 8,
        first_log: 4,
    };
    let propose = metadata::ProposeRequest { entry: Bytes::from_static(b"an entry"), timeout_ms: 30_000 };
    let messages = [
        ("propose", propose.encode_to_vec()),
        ("applied", answer(Answered::Applied(Bytes::from_static(b"applied")), 7)),
        ("refused", answer(Answered::Refused(refusal), 0)),
        ("unknown", answer(Answered::Unknown("the leader changed".to_owned()), 0)),
        ("read index", metadata::ReadIndexRequest { timeout_ms: 500 }.encode_to_vec()),
        ("read index answer", metadata::ReadIndexResponse { revision: 7 }.encode_to_vec()),
        ("status", metadata::StatusRequest { hash_at: 7, timeout_ms: 500 }.encode_to_vec()),
        ("status answer", status.encode_to_vec()),
    ];
    check(include_str!("golden/metadata.txt"), messages.into_iter());
}

//! Raft's requests and answers as messages.

use atoll_proto::raft::v1 as wire;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::raft::Types;
use crate::raft::codec::{self, InvalidMessage, log_id_of, log_id_to_wire, vote_of, vote_to_wire};
use crate::raft::types::{Entry, LogId};

type Decoded<T> = Result<T, InvalidMessage>;

pub(crate) fn append_to_wire(rpc: &AppendEntriesRequest<Types>) -> wire::AppendEntriesRequest {
    wire::AppendEntriesRequest {
        vote: Some(vote_to_wire(&rpc.vote)),
        previous: rpc.prev_log_id.as_ref().map(log_id_to_wire),
        entries: rpc.entries.iter().map(codec::entry_to_wire).collect(),
        committed: rpc.leader_commit.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn append_of(rpc: wire::AppendEntriesRequest) -> Decoded<AppendEntriesRequest<Types>> {
    let previous = rpc.previous.map(log_id_of);
    let entries = rpc.entries.into_iter().map(codec::entry_of).collect::<Decoded<Vec<_>>>()?;
    check_order(previous, &entries)?;
    Ok(AppendEntriesRequest {
        vote: vote_of(rpc.vote)?,
        prev_log_id: previous,
        entries,
        leader_commit: rpc.committed.map(log_id_of),
    })
}

/// A gap would end the node that appends it, and so would an index that none can follow.
fn check_order(previous: Option<LogId>, entries: &[Entry]) -> Decoded<()> {
    let mut due = previous.map_or(Some(0), |id| id.index().checked_add(1));
    for entry in entries {
        if due != Some(entry.log_id.index()) {
            return Err(InvalidMessage("order of entries"));
        }
        due = entry.log_id.index().checked_add(1);
    }
    due.map(drop).ok_or(InvalidMessage("log index"))
}

pub(crate) fn append_result_to_wire(result: StreamAppendResult<Types>) -> wire::AppendEntriesResponse {
    use wire::append_entries_response::Result as Answer;
    let result = match result {
        Ok(last) => Answer::Matched(wire::Matched { last: last.as_ref().map(log_id_to_wire) }),
        Err(StreamAppendError::Conflict(id)) => Answer::Conflict(log_id_to_wire(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(vote_to_wire(&vote)),
    };
    wire::AppendEntriesResponse { result: Some(result) }
}

pub(crate) fn append_result_of(response: wire::AppendEntriesResponse) -> Decoded<StreamAppendResult<Types>> {
    use wire::append_entries_response::Result as Answer;
    Ok(match response.result.ok_or(InvalidMessage("result"))? {
        Answer::Matched(matched) => Ok(matched.last.map(log_id_of)),
        Answer::Conflict(id) => Err(StreamAppendError::Conflict(log_id_of(id))),
        Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_of(Some(vote))?)),
    })
}

/// The answer to one request alone; `request` is what it answers.
pub(crate) fn append_response_to_wire(
    response: AppendEntriesResponse<Types>,
    previous: Option<wire::LogId>,
    last: Option<wire::LogId>,
) -> wire::AppendEntriesResponse {
    use wire::append_entries_response::Result as Answer;
    let result = match response {
        AppendEntriesResponse::Success => Answer::Matched(wire::Matched { last }),
        AppendEntriesResponse::PartialSuccess(last) => {
            Answer::Matched(wire::Matched { last: last.as_ref().map(log_id_to_wire) })
        }
        AppendEntriesResponse::Conflict => Answer::Conflict(previous.unwrap_or_default()),
        AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(vote_to_wire(&vote)),
    };
    wire::AppendEntriesResponse { result: Some(result) }
}

pub(crate) fn append_response_of(response: wire::AppendEntriesResponse) -> Decoded<AppendEntriesResponse<Types>> {
    Ok(match append_result_of(response)? {
        Ok(last) => AppendEntriesResponse::PartialSuccess(last),
        Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
        Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
    })
}

pub(crate) fn vote_request_to_wire(rpc: &VoteRequest<Types>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_to_wire(&rpc.vote)),
        last: rpc.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: rpc.leadership_transfer,
    }
}

pub(crate) fn vote_request_of(rpc: wire::VoteRequest) -> Decoded<VoteRequest<Types>> {
    let mut request = VoteRequest::new(vote_of(rpc.vote)?, rpc.last.map(log_id_of));
    request.leadership_transfer = rpc.leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_response_to_wire(response: &VoteResponse<Types>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_response_of(response: wire::VoteResponse) -> Decoded<VoteResponse<Types>> {
    Ok(VoteResponse::new(vote_of(response.vote)?, response.last.map(log_id_of), response.granted))
}

pub(crate) fn transfer_request_of(rpc: wire::TransferLeaderRequest) -> Decoded<TransferLeaderRequest<Types>> {
    Ok(TransferLeaderRequest::new(vote_of(rpc.from)?, rpc.to, rpc.last.map(log_id_of)))
}

pub(crate) fn transfer_response_to_wire(response: &TransferLeaderResponse<Types>) -> wire::TransferLeaderResponse {
    match response {
        Ok(()) => wire::TransferLeaderResponse::default(),
        Err(error @ TransferLeaderError::VoteChanged { actual, .. }) => wire::TransferLeaderResponse {
            refused: error.to_string(),
            actual_vote: Some(vote_to_wire(actual)),
            actual_last: None,
        },
        Err(error @ TransferLeaderError::LogNotFlushed { actual, .. }) => wire::TransferLeaderResponse {
            refused: error.to_string(),
            actual_vote: None,
            actual_last: actual.as_ref().map(log_id_to_wire),
        },
    }
}

pub(crate) fn transfer_response_of(
    response: wire::TransferLeaderResponse,
    rpc: &TransferLeaderRequest<Types>,
) -> Decoded<TransferLeaderResponse<Types>> {
    if response.refused.is_empty() {
        return Ok(Ok(()));
    }
    Ok(Err(match response.actual_vote {
        Some(vote) => TransferLeaderError::VoteChanged { expected: *rpc.from_leader(), actual: vote_of(Some(vote))? },
        None => TransferLeaderError::LogNotFlushed {
            expected: rpc.last_log_id().copied(),
            actual: response.actual_last.map(log_id_of),
        },
    }))
}

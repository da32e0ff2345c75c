//! Log entries to one peer, pipelined, and torn down when nothing moves.

use std::sync::Arc;
use std::time::Duration;

use atoll_proto::raft::v1 as wire;
use futures::{Stream, StreamExt, stream};
use openraft::errors::RPCError;
use openraft::network::RPCTypes;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Streaming;

use super::client::{Link, unreachable};
use super::messages;
use crate::raft::Types;

/// What is on its way.
#[derive(Debug)]
pub(super) struct Flow(Mutex<InFlight>);

#[derive(Debug)]
struct InFlight {
    requests: u64,
    /// When the oldest request that is not answered could first be answered.
    since: Instant,
}

impl Flow {
    fn sent(&self) {
        let mut flow = self.0.lock();
        if flow.requests == 0 {
            flow.since = Instant::now();
        }
        flow.requests += 1;
    }

    fn answered(&self) {
        let mut flow = self.0.lock();
        flow.requests = flow.requests.saturating_sub(1);
        flow.since = Instant::now();
    }

    fn stalled(&self, stall: Duration) -> bool {
        let flow = self.0.lock();
        flow.requests > 0 && flow.since.elapsed() >= stall
    }
}

/// Requests as messages, counted as they leave.
pub(super) fn requests<S>(input: S) -> (impl Stream<Item = wire::AppendEntriesRequest> + Send + 'static, Arc<Flow>)
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let flow = Arc::new(Flow(Mutex::new(InFlight { requests: 0, since: Instant::now() })));
    let counter = flow.clone();
    let requests = input.map(move |request| {
        counter.sent();
        messages::append_to_wire(&request)
    });
    (requests, flow)
}

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// Answers, in order. Ends after the first error.
pub(super) fn answers(
    answers: Streaming<wire::AppendEntriesResponse>,
    flow: Arc<Flow>,
    link: Link,
    stall: Duration,
) -> impl Stream<Item = Answer> + Send + 'static {
    stream::unfold(Some(answers), move |answers| {
        let flow = flow.clone();
        async move {
            let mut answers = answers?;
            let answer = next(&mut answers, &flow, link, stall).await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(answers)))
        }
    })
}

async fn next(
    answers: &mut Streaming<wire::AppendEntriesResponse>,
    flow: &Flow,
    link: Link,
    stall: Duration,
) -> Option<Answer> {
    loop {
        match tokio::time::timeout(stall / 4, answers.message()).await {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(answer))) => {
                flow.answered();
                return Some(messages::append_result_of(answer).map_err(|e| unreachable(&e).into()));
            }
            Ok(Err(status)) => return Some(Err(unreachable(&status).into())),
            Err(_) if flow.stalled(stall) => {
                return Some(Err(link.timed_out(RPCTypes::AppendEntries, stall).into()));
            }
            Err(_) => {}
        }
    }
}

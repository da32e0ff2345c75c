//! Making a write from any node: at whatever node leads, again under the same request id when an answer is lost.

use std::error::Error;
use std::time::Duration;

use atoll_fault::{planted, step};
use atoll_metadata::{Applied, Command, Entry, Envelope, Outcome, Rejection};
use atoll_proto::metadata::v1::metadata_client::MetadataClient;
use atoll_proto::metadata::v1::{ProposeRequest, propose_response};
use atoll_types::{RequestId, Revision};
use tokio::time::Instant;

use crate::batcher::Answer;
use crate::error::ProposeError;
use crate::group::Inner;
use crate::leader::{Leader, Leaders};
use crate::network::Lane;
use crate::pulse::Mode;

/// A write is answered before it is applied here when that takes longer; reads wait for it then.
const APPLY_WAIT: Duration = Duration::from_secs(1);
/// Between two tries when nothing else tells that one may succeed.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A write to be made.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What.
    pub command: Command,
    /// Names the write; a client's own, or random.
    pub request: RequestId,
    /// The revision that the client knew (its own request id), or that was applied here when the request arrived.
    pub seen: Revision,
    /// True when the request id is the client's own and may have been tried before.
    pub may_be_retry: bool,
    /// Who asks; empty for the system itself.
    pub actor: String,
    /// From where; may be empty.
    pub client_address: String,
    /// Until when it must be answered.
    pub deadline: Instant,
}

/// One write on its way.
pub(crate) struct Proposing<'a> {
    inner: &'a Inner,
    entry: Entry,
    deadline: Instant,
    leaders: Leaders,
    /// Why an earlier attempt may have been written.
    lost: Option<String>,
    /// Why the last attempt was refused.
    refused: String,
}

/// What to do after an attempt.
enum Next {
    Done { index: u64, applied: Applied },
    Retry,
    GiveUp,
}

impl<'a> Proposing<'a> {
    pub(crate) fn new(inner: &'a Inner, proposal: Proposal) -> Self {
        let envelope = Envelope {
            request: proposal.request,
            attempt: u32::from(proposal.may_be_retry),
            seen: proposal.seen,
            actor: proposal.actor,
            client_address: proposal.client_address,
            origin: inner.options.member.node,
            trace_parent: atoll_telemetry::trace_parent(),
            cluster: inner.options.cluster,
            epoch: inner.options.epoch,
            feature_level: inner.options.feature_level,
        };
        Self {
            inner,
            entry: Entry { time_ms: 0, envelope, command: proposal.command },
            deadline: proposal.deadline,
            leaders: Leaders::new(&inner.raft),
            lost: None,
            refused: "there is no leader".to_owned(),
        }
    }

    pub(crate) async fn run(mut self) -> Result<Applied, ProposeError> {
        loop {
            if self.inner.pulse.mode() == Mode::ReadOnly {
                self.refused = "no quorum is in reach".to_owned();
                return Err(self.failure());
            }
            if Instant::now() >= self.deadline {
                return Err(self.failure());
            }
            match self.attempt().await {
                Next::Done { index, applied } => return self.done(index, applied).await,
                Next::Retry => self.pause().await,
                Next::GiveUp => return Err(self.failure()),
            }
        }
    }

    /// One attempt. It ends early when the leader changes, when the mode does, and at the deadline.
    async fn attempt(&mut self) -> Next {
        let mut mode = self.inner.pulse.watch_mode();
        let read_only = mode.wait_for(|mode| *mode == Mode::ReadOnly);
        let leader = tokio::select! {
            leader = self.leaders.wait(self.deadline) => leader,
            _ = read_only => None,
        };
        let Some(leader) = leader else { return Next::Retry };
        let mut mode = self.inner.pulse.watch_mode();
        let mut leaders = self.leaders.clone();
        let answer = tokio::select! {
            answer = self.ask(&leader) => answer,
            () = leaders.changed_from(&leader) => Answer::Unknown("the leader changed meanwhile".to_owned()),
            _ = mode.wait_for(|mode| *mode == Mode::ReadOnly) => Answer::Unknown("the quorum was lost meanwhile".to_owned()),
            () = tokio::time::sleep_until(self.deadline) => Answer::Unknown("the deadline passed".to_owned()),
        };
        self.weigh(answer)
    }

    async fn ask(&self, leader: &Leader) -> Answer {
        match leader {
            Leader::Here => step!("propose.here", self.inner.batcher.propose(self.entry.clone(), self.deadline).await),
            Leader::Peer(node, at) => match self.inner.peers.channel(*node, &at.grpc_address, Lane::Forward) {
                Ok(channel) => forward(MetadataClient::new(channel), &self.entry, self.deadline).await,
                Err(error) => Answer::refused(error.to_string()),
            },
        }
    }

    fn weigh(&mut self, answer: Answer) -> Next {
        match answer {
            Answer::Applied { index, applied } => match Applied::decode(&applied) {
                Ok(applied) => Next::Done { index, applied },
                Err(error) => {
                    self.lost = Some(format!("the answer cannot be read: {error}"));
                    Next::GiveUp
                }
            },
            Answer::Refused { reason, is_final, .. } => {
                self.refused = reason;
                if is_final { Next::GiveUp } else { Next::Retry }
            }
            Answer::Unknown(why) => {
                // The same request under the same `seen`: whichever attempt is applied first counts.
                self.entry.envelope.attempt = self.entry.envelope.attempt.saturating_add(1);
                if planted!("retry_under_a_new_id") {
                    let seen = Revision(*self.inner.watch_applied().borrow());
                    let envelope = &mut self.entry.envelope;
                    (envelope.request, envelope.attempt, envelope.seen) = (RequestId::random(), 0, seen);
                }
                self.lost = Some(why);
                Next::Retry
            }
        }
    }

    /// Until another leader is known, but not for long: the same one may be able to take it by then.
    async fn pause(&mut self) {
        let until = (Instant::now() + RETRY_PAUSE).min(self.deadline);
        tokio::time::sleep_until(until).await;
    }

    async fn done(&self, index: u64, applied: Applied) -> Result<Applied, ProposeError> {
        let too_old = applied.outcome == Outcome::Rejected(Rejection::Expired);
        if let Some(lost) = self.lost.as_ref().filter(|_| too_old) {
            return Err(ProposeError::Unknown(lost.clone()));
        }
        let until = (Instant::now() + APPLY_WAIT).min(self.deadline);
        if !self.inner.wait_index(index, until).await {
            self.inner.hold_reads_until(index);
        }
        Ok(applied)
    }

    fn failure(&self) -> ProposeError {
        match &self.lost {
            Some(why) => ProposeError::Unknown(why.clone()),
            None => ProposeError::NotProposed(self.refused.clone()),
        }
    }
}

async fn forward<T>(mut leader: MetadataClient<T>, entry: &Entry, deadline: Instant) -> Answer
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
    T::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    let left = deadline.saturating_duration_since(Instant::now());
    let request = ProposeRequest {
        entry: entry.encode().into(),
        timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    };
    match step!("propose.forward", leader.propose(request).await) {
        Ok(response) => {
            let response = response.into_inner();
            match response.result {
                Some(propose_response::Result::Applied(applied)) => Answer::Applied { index: response.index, applied },
                Some(propose_response::Result::Refused(refusal)) => Answer::Refused {
                    reason: refusal.reason,
                    leader: (refusal.leader != 0).then_some(refusal.leader),
                    is_final: refusal.r#final,
                },
                Some(propose_response::Result::Unknown(why)) => Answer::Unknown(why),
                None => Answer::Unknown("the leader's answer is empty".to_owned()),
            }
        }
        Err(status) if never_sent(&status) => {
            Answer::refused(format!("the leader cannot be reached: {}", status.message()))
        }
        Err(status) => Answer::Unknown(status.to_string()),
    }
}

/// Whether a call provably never left: there was no connection to send it over.
fn never_sent(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

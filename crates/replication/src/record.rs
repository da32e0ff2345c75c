//! Records verified copies in the metadata group, many in one command.

use std::sync::Arc;
use std::time::Duration;

use atoll_fault::step;
use atoll_metadata::{Command, CopyItem, CopyOutcome, Done, Outcome, Rejection};
use atoll_registry::{Applied, MetadataGroup, ProposeError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::propose::SystemRequest;
use crate::{FetcherOptions, LocalNode};

/// Copies that wait to be recorded; who brings more waits.
const QUEUE_MAX: usize = 256;
/// Commands under way at once: a far leader must not hold the queue up.
const COMMANDS_MAX: usize = 4;
/// Longest wait for one command.
const COMMAND_WAIT: Duration = Duration::from_secs(10);
/// The wait after the first attempt that failed; it doubles with each.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_millis(100) };
/// How often it is tried to record copies.
const ATTEMPTS: u32 = 6;

/// Why a copy has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// It is provably not recorded: its object can go.
    #[error("the copy was not recorded: {0}")]
    NotRecorded(String),
    /// It may be recorded, or may yet be: its object must stay.
    #[error("whether the copy was recorded is unknown: {0}")]
    Unknown(String),
}

type Answer = Result<CopyOutcome, RecordError>;
type Waiting = (CopyItem, oneshot::Sender<Answer>);

/// Takes copies to record.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Waiting>);

/// Makes commands of them.
pub(crate) struct RecorderTask {
    local: LocalNode,
    metadata: Arc<dyn MetadataGroup>,
    batch_max: usize,
    batch_wait: Duration,
    queue: mpsc::Receiver<Waiting>,
}

impl Recorder {
    pub(crate) fn new(
        local: LocalNode,
        metadata: Arc<dyn MetadataGroup>,
        options: &FetcherOptions,
    ) -> (Self, RecorderTask) {
        let (to, queue) = mpsc::channel(QUEUE_MAX);
        let (batch_max, batch_wait) = (options.batch_max.clamp(1, Command::ITEMS_MAX), options.batch_wait);
        (Self(to), RecorderTask { local, metadata, batch_max, batch_wait, queue })
    }

    /// Records a copy, and again while it is provably not recorded for a reason that may pass.
    pub(crate) async fn record(&self, copy: CopyItem) -> Answer {
        let mut attempt = 0;
        loop {
            match self.try_record(copy).await {
                Err(RecordError::NotRecorded(_)) if attempt + 1 < ATTEMPTS && !self.0.is_closed() => {
                    sleep(pause_after(attempt)).await;
                }
                answer => return answer,
            }
            attempt += 1;
        }
    }

    async fn try_record(&self, copy: CopyItem) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.0.send((copy, answer)).await.is_err() {
            return Err(RecordError::NotRecorded("the node is stopping".into()));
        }
        answered.await.unwrap_or_else(|_| Err(RecordError::Unknown("the node is stopping".into())))
    }
}

fn pause_after(attempt: u32) -> Duration {
    PAUSE * (1 << attempt)
}

/// Whether the copy's object is the recorded one.
pub(crate) fn is_recorded(outcome: CopyOutcome) -> bool {
    matches!(outcome, CopyOutcome::Done | CopyOutcome::Already)
}

impl RecorderTask {
    /// Records until it is stopped; commands under way are given up then, and their outcomes are unknown.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.record_all()).await;
    }

    async fn record_all(&mut self) {
        let mut commands = JoinSet::new();
        while let Some(first) = self.queue.recv().await {
            let batch = self.collect(first).await;
            if commands.len() >= COMMANDS_MAX {
                commands.join_next().await;
            }
            while commands.try_join_next().is_some() {}
            commands.spawn(record_batch(self.local.clone(), self.metadata.clone(), batch));
        }
    }

    async fn collect(&mut self, first: Waiting) -> Vec<Waiting> {
        let (mut batch, until) = (vec![first], Instant::now() + self.batch_wait);
        while batch.len() < self.batch_max {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }
}

async fn record_batch(local: LocalNode, metadata: Arc<dyn MetadataGroup>, batch: Vec<Waiting>) {
    let (copies, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let command = Command::RecordCopies { region: local.region, store: local.store, copies };
    let outcome = step!("copy.record", record_until_known(&*metadata, command).await);
    for (i, answer) in answers.into_iter().enumerate() {
        let missing = || Err(RecordError::Unknown("the answer has too few outcomes".into()));
        // Who asked may have left; what was recorded stays recorded.
        let _ = answer.send(match &outcome {
            Ok(outcomes) => outcomes.get(i).copied().map_or_else(missing, Ok),
            Err(error) => Err(error.clone()),
        });
    }
}

/// Makes one request of a command, and makes the same one again while its outcome is not known. Another request could be
/// applied long after the first one, when the object that it names has become garbage.
async fn record_until_known(metadata: &dyn MetadataGroup, command: Command) -> Result<Vec<CopyOutcome>, RecordError> {
    let (request, mut unknown) = (SystemRequest::new(metadata, command), None);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(pause_after(attempt - 1)).await;
        }
        match request.propose(metadata, unknown.is_some(), COMMAND_WAIT).await {
            // An earlier attempt may have been applied, so long ago that its outcome is not kept any more.
            Ok(Applied { outcome: Outcome::Rejected(why @ Rejection::Expired), .. }) if unknown.is_some() => {
                return Err(RecordError::Unknown(why.to_string()));
            }
            Ok(applied) => return of_outcome(applied.outcome),
            Err(ProposeError::NotProposed(why)) if unknown.is_none() => return Err(RecordError::NotRecorded(why)),
            Err(ProposeError::NotProposed(_)) => {}
            Err(ProposeError::Unknown(why)) => unknown = Some(why),
        }
    }
    Err(RecordError::Unknown(unknown.unwrap_or_default()))
}

fn of_outcome(outcome: Outcome) -> Result<Vec<CopyOutcome>, RecordError> {
    match outcome {
        Outcome::Done(Done::Copies(outcomes)) => Ok(outcomes),
        Outcome::Done(other) => Err(RecordError::Unknown(format!("an answer of another kind: {other:?}"))),
        Outcome::Rejected(why) => Err(RecordError::NotRecorded(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_metadata::{KvError, KvRead};
    use atoll_registry::{BarrierError, Freshness, Mode, Proposal};
    use atoll_types::{Algorithm, Revision, StoreId};
    use parking_lot::Mutex;
    use std::collections::VecDeque;

    /// Answers as it was told to, and remembers what it was asked.
    struct Scripted {
        answers: Mutex<VecDeque<Result<Applied, ProposeError>>>,
        asked: Mutex<Vec<Proposal>>,
    }

    #[async_trait::async_trait]
    impl MetadataGroup for Scripted {
        fn read_with(&self, _: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
            Err(KvError("nothing is read here".into()))
        }

        async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
            self.asked.lock().push(proposal);
            self.answers.lock().pop_front().expect("an answer for each proposal")
        }

        async fn barrier(&self, _: Instant) -> Result<Revision, BarrierError> {
            Err(BarrierError::NoQuorum)
        }

        async fn wait_applied(&self, revision: Revision, _: Instant) -> Result<(), BarrierError> {
            Err(BarrierError::Behind(revision))
        }

        fn freshness(&self) -> Freshness {
            // It goes on: a request that is made again must not say that it has seen more.
            let applied = Revision(7 + self.asked.lock().len() as u64);
            Freshness { applied, mode: Mode::ReadWrite, staleness: None, read_only_since: None }
        }
    }

    fn done(outcome: CopyOutcome) -> Result<Applied, ProposeError> {
        Ok(Applied { revision: Revision(9), outcome: Outcome::Done(Done::Copies(vec![outcome])) })
    }

    fn lost() -> Result<Applied, ProposeError> {
        Err(ProposeError::Unknown("the leader is gone".into()))
    }

    fn refused() -> Result<Applied, ProposeError> {
        Err(ProposeError::NotProposed("no leader".into()))
    }

    async fn recorded(answers: Vec<Result<Applied, ProposeError>>) -> (Answer, Vec<Proposal>) {
        let group = Scripted { answers: Mutex::new(answers.into()), asked: Mutex::default() };
        let command = Command::RecordCopies {
            region: "eu-west".parse().expect("a region"),
            store: StoreId::random(),
            copies: vec![CopyItem {
                digest: Algorithm::Sha256.digest(b"x"),
                size: 1,
                object: atoll_types::ObjectName::random(1),
            }],
        };
        let answer = record_until_known(&group, command).await.map(|outcomes| outcomes[0]);
        assert!(group.answers.lock().is_empty(), "every answer was asked for");
        (answer, group.asked.into_inner())
    }

    #[tokio::test]
    async fn what_has_no_outcome_is_asked_again_as_the_same_request() {
        let (answer, asked) = recorded(vec![lost(), refused(), lost(), done(CopyOutcome::Done)]).await;
        assert!(matches!(answer, Ok(CopyOutcome::Done)));
        for proposal in &asked {
            assert_eq!((proposal.request, proposal.seen), (asked[0].request, Revision(7)));
        }
        let again: Vec<bool> = asked.iter().map(|proposal| proposal.may_be_retry).collect();
        assert_eq!(again, [false, true, true, true]);
    }

    #[tokio::test]
    async fn an_object_may_go_only_if_it_is_provably_not_recorded() {
        let (answer, _) = recorded(vec![refused()]).await;
        assert!(matches!(answer, Err(RecordError::NotRecorded(_))));
        // Not wanted, by the one request that there was.
        let (answer, _) = recorded(vec![lost(), done(CopyOutcome::NotWanted)]).await;
        assert!(matches!(answer, Ok(CopyOutcome::NotWanted)));

        let (answer, _) = recorded(vec![lost(), refused(), refused(), refused(), refused(), refused()]).await;
        assert!(matches!(answer, Err(RecordError::Unknown(_))));
        let expired = Ok(Applied { revision: Revision(9), outcome: Outcome::Rejected(Rejection::Expired) });
        let (answer, _) = recorded(vec![lost(), expired.clone()]).await;
        assert!(matches!(answer, Err(RecordError::Unknown(_))), "its outcome may have been forgotten");
        let (answer, _) = recorded(vec![expired]).await;
        assert!(matches!(answer, Err(RecordError::NotRecorded(_))));
    }
}

//! Records verified copies in the metadata group, many in one command.

use std::sync::Arc;
use std::time::Duration;

use atoll_fault::step;
use atoll_metadata::{Command, CopyItem, CopyOutcome, Done, Outcome};
use atoll_registry::{MetadataGroup, ProposeError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{FetcherOptions, LocalNode, propose};

/// Copies that wait to be recorded; who brings more waits.
const QUEUE_MAX: usize = 256;
/// Commands under way at once: a far leader must not hold the queue up.
const COMMANDS_MAX: usize = 4;
/// Longest wait for one command.
const COMMAND_WAIT: Duration = Duration::from_secs(10);
/// How often a copy that has no outcome yet is recorded again; the command is idempotent by the object's name.
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

    /// Records a copy, and again while the outcome is not known.
    pub(crate) async fn record(&self, copy: CopyItem) -> Answer {
        let mut unknown = None;
        for attempt in 0..ATTEMPTS {
            match self.try_record(copy).await {
                Ok(outcome) if unknown.is_some() && !is_recorded(outcome) => {
                    // The attempt of unknown outcome may still be applied.
                    return Err(RecordError::Unknown(format!("{outcome:?} after an attempt without an answer")));
                }
                Ok(outcome) => return Ok(outcome),
                Err(RecordError::Unknown(why)) => unknown = Some(why),
                Err(RecordError::NotRecorded(why)) if attempt + 1 == ATTEMPTS && unknown.is_none() => {
                    return Err(RecordError::NotRecorded(why));
                }
                Err(RecordError::NotRecorded(_)) => {}
            }
            sleep(Duration::from_millis(100) * (1 << attempt)).await;
        }
        Err(RecordError::Unknown(unknown.unwrap_or_default()))
    }

    async fn try_record(&self, copy: CopyItem) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.0.send((copy, answer)).await.is_err() {
            return Err(RecordError::NotRecorded("the node is stopping".into()));
        }
        answered.await.unwrap_or_else(|_| Err(RecordError::Unknown("the node is stopping".into())))
    }
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
    let outcome = match step!("copy.record", propose::system(&*metadata, command, COMMAND_WAIT).await) {
        Ok(applied) => of_outcome(applied.outcome),
        Err(ProposeError::NotProposed(why)) => Err(RecordError::NotRecorded(why)),
        Err(ProposeError::Unknown(why)) => Err(RecordError::Unknown(why)),
    };
    for (i, answer) in answers.into_iter().enumerate() {
        let missing = || Err(RecordError::Unknown("the answer has too few outcomes".into()));
        // Who asked may have left; what was recorded stays recorded.
        let _ = answer.send(match &outcome {
            Ok(outcomes) => outcomes.get(i).copied().map_or_else(missing, Ok),
            Err(error) => Err(error.clone()),
        });
    }
}

fn of_outcome(outcome: Outcome) -> Result<Vec<CopyOutcome>, RecordError> {
    match outcome {
        Outcome::Done(Done::Copies(outcomes)) => Ok(outcomes),
        Outcome::Done(other) => Err(RecordError::Unknown(format!("an answer of another kind: {other:?}"))),
        Outcome::Rejected(why) => Err(RecordError::NotRecorded(why.to_string())),
    }
}

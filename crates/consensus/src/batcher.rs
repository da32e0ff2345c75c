//! Group commit: commands that arrive together at the leader are proposed together.

use std::sync::Arc;

use atoll_metadata::Entry;
use bytes::Bytes;
use futures::StreamExt;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::WriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Stamper;
use crate::raft::types::EncodedEntry;
use crate::raft::{Raft, Types};

/// Commands that wait to be proposed, at most.
const QUEUE_MAX: usize = 1_024;
/// Their bytes, at most.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Commands of one batch, at most.
const BATCH_MAX: usize = 256;
/// Batches that were proposed and are not answered yet, at most.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of one entry, at most. A message between nodes has 4 MiB.
pub(crate) const ENTRY_BYTES_MAX: usize = 2 << 20;

/// What came of a proposal at the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An encoded `Applied`, and the index of the entry.
    Applied { index: u64, applied: Bytes },
    /// Provably never proposed.
    Refused { reason: String, leader: Option<u64>, is_final: bool },
    /// Proposed, and its outcome is not known.
    Unknown(String),
}

impl Answer {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into(), leader: None, is_final: false }
    }

    pub(crate) fn refused_for_good(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into(), leader: None, is_final: true }
    }
}

/// A command that waits to be proposed.
struct Pending {
    entry: Entry,
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
    _bytes: OwnedSemaphorePermit,
}

/// The way into the batcher.
#[derive(Clone, Debug)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Pending>,
    bytes: Arc<Semaphore>,
}

impl Batcher {
    /// The way in, and the task's half.
    pub(crate) fn new(raft: Raft, stamper: Arc<Stamper>) -> (Self, BatcherTask) {
        let (queue, pending) = mpsc::channel(QUEUE_MAX);
        let batcher = Self { queue, bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) };
        (batcher, BatcherTask { raft, stamper, pending, in_flight: JoinSet::new() })
    }

    /// Proposes a command at this node, and waits for what comes of it. Cancelled before it was proposed, it never is.
    pub(crate) async fn propose(&self, entry: Entry, deadline: Instant) -> Answer {
        let encoded = entry.encode();
        if encoded.len() > ENTRY_BYTES_MAX {
            return Answer::refused_for_good(format!(
                "the command has {} bytes, the limit is {ENTRY_BYTES_MAX}",
                encoded.len()
            ));
        }
        // What cannot be read back would end every node that applies it.
        if let Err(error) = Entry::decode(&encoded) {
            return Answer::refused_for_good(format!("the command is not valid: {error}"));
        }
        let weight = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        let Ok(Ok(bytes)) = tokio::time::timeout_at(deadline, self.bytes.clone().acquire_many_owned(weight)).await
        else {
            return Answer::refused("the leader is too busy");
        };
        let (answer, answered) = oneshot::channel();
        let pending = Pending { entry, deadline, answer, _bytes: bytes };
        match tokio::time::timeout_at(deadline, self.queue.send(pending)).await {
            Ok(Ok(())) => answered.await.unwrap_or_else(|_| Answer::Unknown("the node is stopping".to_owned())),
            Ok(Err(_)) => Answer::refused("the node is stopping"),
            Err(_) => Answer::refused("the leader is too busy"),
        }
    }
}

/// Proposes what is queued.
pub(crate) struct BatcherTask {
    raft: Raft,
    stamper: Arc<Stamper>,
    pending: mpsc::Receiver<Pending>,
    in_flight: JoinSet<()>,
}

impl BatcherTask {
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = self.in_flight.join_next(), if !self.in_flight.is_empty() => {}
                taken = self.pending.recv_many(&mut batch, BATCH_MAX), if self.in_flight.len() < IN_FLIGHT_MAX => {
                    if taken == 0 {
                        return;
                    }
                    self.submit(std::mem::take(&mut batch)).await;
                }
            }
        }
    }

    async fn submit(&mut self, batch: Vec<Pending>) {
        let now = Instant::now();
        let (mut entries, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for pending in batch {
            // Whoever has gone was told something already: nothing more is proposed for it.
            if pending.answer.is_closed() {
                continue;
            }
            if pending.deadline <= now {
                drop(pending.answer.send(Answer::refused("the deadline passed before it was proposed")));
                continue;
            }
            let stamped = Entry { time_ms: self.stamper.stamp(), ..pending.entry };
            entries.push(EncodedEntry(stamped.encode().into()));
            answers.push(pending.answer);
        }
        if entries.is_empty() {
            return;
        }
        match self.raft.client_write_many(entries).await {
            Ok(mut results) => {
                self.in_flight.spawn(async move {
                    for answer in answers {
                        let result = results.next().await;
                        drop(answer.send(answer_of(result)));
                    }
                });
            }
            Err(fatal) => answers.into_iter().for_each(|answer| drop(answer.send(unknown(&fatal)))),
        }
    }
}

fn unknown(why: &impl ToString) -> Answer {
    Answer::Unknown(why.to_string())
}

fn answer_of(result: Option<Result<WriteResult<Types>, Fatal<Types>>>) -> Answer {
    match result {
        Some(Ok(Ok(written))) => Answer::Applied { index: written.log_id.index(), applied: written.response.0 },
        Some(Ok(Err(ClientWriteError::ForwardToLeader(to)))) => Answer::Refused {
            reason: if to.leader_id.is_some() {
                "this node does not lead".to_owned()
            } else {
                "no quorum is in reach".to_owned()
            },
            leader: to.leader_id,
            is_final: false,
        },
        Some(Ok(Err(error))) => unknown(&error),
        Some(Err(fatal)) => unknown(&fatal),
        None => Answer::Unknown("consensus has stopped".to_owned()),
    }
}

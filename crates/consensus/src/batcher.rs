//! Group commit: commands that arrive together at the leader are proposed together.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use atoll_fault::step;
use atoll_metadata::Entry;
use bytes::Bytes;
use futures::StreamExt;
use openraft::base::BoxStream;
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
/// Bytes of the commands that wait to be proposed, or were and are not answered yet, at most.
const BYTES_MAX: usize = 32 << 20;
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
    asker: Asker,
}

/// Who waits for an answer, and the room that the command takes until there is one: whether or not anybody still waits.
struct Asker {
    answer: oneshot::Sender<Answer>,
    _bytes: OwnedSemaphorePermit,
}

impl Asker {
    fn tell(self, answer: Answer) {
        // Whoever has gone was told something already.
        drop(self.answer.send(answer));
    }
}

/// What came of a batch, entry by entry.
type Results = BoxStream<'static, Result<WriteResult<Types>, Fatal<Types>>>;

/// Where batches are proposed.
pub(crate) trait ProposeMany: Send + Sync + 'static {
    /// Proposes commands together; an error when consensus has stopped.
    fn propose_many(&self, entries: Vec<EncodedEntry>) -> impl Future<Output = Result<Results, Fatal<Types>>> + Send;
}

impl ProposeMany for Raft {
    async fn propose_many(&self, entries: Vec<EncodedEntry>) -> Result<Results, Fatal<Types>> {
        self.client_write_many(entries).await
    }
}

/// The way into the batcher.
#[derive(Clone, Debug)]
pub(crate) struct Batcher {
    queue: mpsc::Sender<Pending>,
    /// Room for what is queued and in flight.
    bytes: Arc<Semaphore>,
    /// Room for what waits for room.
    waiting: Arc<Semaphore>,
}

impl Batcher {
    /// The way in, and the task's half.
    pub(crate) fn new<P>(raft: P, stamper: Arc<Stamper>) -> (Self, BatcherTask<P>) {
        Self::with_room(raft, stamper, BYTES_MAX)
    }

    fn with_room<P>(raft: P, stamper: Arc<Stamper>, bytes_max: usize) -> (Self, BatcherTask<P>) {
        let (queue, pending) = mpsc::channel(QUEUE_MAX);
        let [bytes, waiting] = [bytes_max, bytes_max].map(|room| Arc::new(Semaphore::new(room)));
        let batcher = Self { queue, bytes, waiting };
        (batcher, BatcherTask { raft, stamper, pending, in_flight: JoinSet::new() })
    }

    /// Proposes a command at this node, and waits for what comes of it. Cancelled before it was proposed, it never is.
    /// For want of room it waits three quarters of the time that is left, and is then refused for good: so the word
    /// that it was never proposed is back before whoever asks must take the outcome for unknown.
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
        let now = Instant::now();
        let patience = now + deadline.saturating_duration_since(now) * 3 / 4;
        let too_busy = || Answer::refused_for_good("the leader has too much to do; try again later");
        let Ok(place) = self.waiting.clone().try_acquire_many_owned(weight) else { return too_busy() };
        let Ok(Ok(bytes)) = tokio::time::timeout_at(patience, self.bytes.clone().acquire_many_owned(weight)).await
        else {
            return too_busy();
        };
        drop(place);
        let (answer, answered) = oneshot::channel();
        let pending = Pending { entry, deadline, asker: Asker { answer, _bytes: bytes } };
        match tokio::time::timeout_at(patience, self.queue.send(pending)).await {
            Ok(Ok(())) => answered.await.unwrap_or_else(|_| Answer::Unknown("the node is stopping".to_owned())),
            Ok(Err(_)) => Answer::refused("the node is stopping"),
            Err(_) => too_busy(),
        }
    }
}

/// Proposes what is queued.
pub(crate) struct BatcherTask<P = Raft> {
    raft: P,
    stamper: Arc<Stamper>,
    pending: mpsc::Receiver<Pending>,
    in_flight: JoinSet<()>,
}

impl<P: ProposeMany> BatcherTask<P> {
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
        let (mut entries, mut askers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for pending in batch {
            // Whoever has gone was told something already: nothing more is proposed for it.
            if pending.asker.answer.is_closed() {
                continue;
            }
            if pending.deadline <= now {
                pending.asker.tell(Answer::refused("the deadline passed before it was proposed"));
                continue;
            }
            let stamped = Entry { time_ms: self.stamper.stamp(), ..pending.entry };
            entries.push(EncodedEntry(stamped.encode().into()));
            askers.push(pending.asker);
        }
        if entries.is_empty() {
            return;
        }
        match step!("propose.submit", self.raft.propose_many(entries).await) {
            Ok(mut results) => {
                self.in_flight.spawn(async move {
                    for asker in askers {
                        let result = results.next().await;
                        step!("propose.answer", asker.tell(answer_of(result)));
                    }
                });
            }
            Err(fatal) => askers.into_iter().for_each(|asker| asker.tell(unknown(&fatal))),
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

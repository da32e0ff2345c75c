//! One client's range straight from another region, shared with nobody: for blobs that cannot be shared.
//!
//! It is as fast as its client. So it has a connection and permits that nothing else needs, and a client that takes
//! nothing for a while gives its stream to others: it gets another one, from the same byte on, when it goes on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_proto::replication::BLOCK_BYTES;
use atoll_types::{Digest, Hasher, NodeId};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::fetch::FetchError;
use super::pool::FetchPool;
use crate::keep::WrongDigest;
use crate::source::{Block, Patience, Purpose, Transfer};

/// How long a client that has begun may wait for another stream.
const RESUME_WAIT: Duration = Duration::from_secs(600);

/// Reads a range in order. The last block of a whole blob is held back until the digest is proved.
pub(crate) struct DirectReader {
    pool: Arc<FetchPool>,
    digest: Digest,
    size: u64,
    range: Range<u64>,
    /// Where the next block begins, and where the last one ends.
    next: u64,
    end: u64,
    /// Whether the client has a part of its body already, from here or from elsewhere.
    begun: bool,
    /// Of a whole blob.
    hasher: Option<Hasher>,
    contributors: Vec<NodeId>,
    pump: Option<Pump>,
}

impl DirectReader {
    /// A range that is not empty and inside the blob; `begun` says that its client has a part of its body already.
    pub(crate) fn new(pool: Arc<FetchPool>, digest: Digest, size: u64, range: Range<u64>, begun: bool) -> Self {
        let hasher = (range == (0..size)).then(|| digest.algorithm().hasher());
        let next = range.start / BLOCK_BYTES * BLOCK_BYTES;
        let end = range.end.next_multiple_of(BLOCK_BYTES).min(size);
        Self { pool, digest, size, range, next, end, begun, hasher, contributors: Vec::new(), pump: None }
    }

    /// The next bytes; `None` after the last ones.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let (block, from) = self.receive().await?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&block.data);
        }
        self.begun = true;
        if !self.contributors.contains(&from) {
            self.contributors.push(from);
        }
        self.next = block.end();
        if self.next >= self.end {
            self.pump = None;
            self.prove()?;
        }
        let start = self.range.start.saturating_sub(block.offset);
        let end = self.range.end.min(block.end()) - block.offset;
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        Ok(Some(block.data.slice(within(start)..within(end))))
    }

    /// Of what has not been received.
    fn transfer(&self) -> Transfer {
        let patience = if self.begun { Patience::MIDDLE } else { Patience::START };
        let sources = self.pool.sources.clone();
        Transfer::new(sources, self.digest, self.size, self.next..self.end, patience, Purpose::Direct)
    }

    async fn receive(&mut self) -> Result<(Block, NodeId), FetchError> {
        loop {
            if self.pump.is_none() {
                // A client that has begun must not be cut because others came meanwhile: they stand behind it.
                let wait = if self.begun { RESUME_WAIT } else { self.pool.options.stream_wait };
                self.pump = Some(Pump::start(&self.pool, self.transfer(), wait).await?);
            }
            let Some(pump) = &mut self.pump else { continue };
            match pump.blocks.recv().await {
                Some(block) => {
                    pump.is_fresh = false;
                    return block;
                }
                None if self.pool.stop.is_cancelled() => return Err(FetchError::Stopped),
                // It had sent at least one block before it was parked: one that ends without any is broken.
                None if pump.is_fresh => {
                    return Err(FetchError::Spool(String::from("the stream ended without a word")));
                }
                None => self.pump = None,
            }
        }
    }

    fn prove(&mut self) -> Result<(), FetchError> {
        let Some(actual) = self.hasher.take().map(Hasher::finish) else { return Ok(()) };
        let expected = self.digest;
        if actual == expected {
            return Ok(());
        }
        self.pool.sources.suspects.wrong_digest(expected, std::mem::take(&mut self.contributors));
        Err(FetchError::Digest(Box::new(WrongDigest { expected, actual })))
    }
}

/// A stream from a source, and the task that hands its blocks on: it notices a client that takes none.
struct Pump {
    blocks: mpsc::Receiver<Result<(Block, NodeId), FetchError>>,
    /// No block has come from it yet.
    is_fresh: bool,
    _task: AbortOnDropHandle<Option<()>>,
}

impl Pump {
    /// Waits for a stream as long as is allowed.
    async fn start(pool: &FetchPool, transfer: Transfer, wait: Duration) -> Result<Self, FetchError> {
        let permit = match timeout(wait, pool.direct.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(FetchError::Stopped),
            Err(_) => return Err(FetchError::NoStream(pool.sources.options.direct_streams_max)),
        };
        let (to, blocks) = mpsc::channel(1);
        let handing_on = hand_on(transfer, to, permit, pool.options.park_after);
        let task = pool.tasks.spawn(pool.stop.clone().run_until_cancelled_owned(handing_on));
        Ok(Self { blocks, is_fresh: true, _task: AbortOnDropHandle::new(task) })
    }
}

/// Hands blocks on to one client, until the last one, an error, or until the client has taken none for so long. What
/// was not taken is fetched again when it is asked for.
async fn hand_on(
    mut transfer: Transfer,
    to: mpsc::Sender<Result<(Block, NodeId), FetchError>>,
    _permit: OwnedSemaphorePermit,
    park_after: Duration,
) {
    while let Some(block) = transfer.next().await.transpose() {
        let is_last = block.is_err();
        let taken = timeout(park_after, to.send(block.map_err(FetchError::from))).await;
        if is_last || !matches!(taken, Ok(Ok(()))) {
            return;
        }
        transfer.be_patient(Patience::MIDDLE);
    }
}

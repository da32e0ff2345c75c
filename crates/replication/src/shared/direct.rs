//! One client's range straight from another region, shared with nobody: for blobs that the spool has no room for.

use std::ops::Range;
use std::sync::Arc;

use atoll_proto::replication::BLOCK_BYTES;
use atoll_types::{Digest, Hasher};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::fetch::FetchError;
use crate::keep::WrongDigest;
use crate::source::{Patience, PeerSources, Transfer};

/// Reads a range in order. The last block of a whole blob is held back until the digest is proved.
pub(crate) struct DirectReader {
    digest: Digest,
    range: Range<u64>,
    transfer: Transfer,
    /// Of a whole blob.
    hasher: Option<Hasher>,
    started: bool,
    _stream: OwnedSemaphorePermit,
}

impl DirectReader {
    /// A range that is not empty and inside the blob.
    pub(crate) fn new(
        sources: Arc<PeerSources>,
        digest: Digest,
        size: u64,
        range: Range<u64>,
        stream: OwnedSemaphorePermit,
    ) -> Self {
        let hasher = (range == (0..size)).then(|| digest.algorithm().hasher());
        let blocks = range.start / BLOCK_BYTES * BLOCK_BYTES..range.end.next_multiple_of(BLOCK_BYTES).min(size);
        let transfer = Transfer::new(sources, digest, size, blocks, Patience::START);
        Self { digest, range, transfer, hasher, started: false, _stream: stream }
    }

    /// The next bytes; `None` after the last ones.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let Some((block, _)) = self.transfer.next().await? else { return Ok(None) };
        if !std::mem::replace(&mut self.started, true) {
            self.transfer.be_patient(Patience::MIDDLE);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&block.data);
        }
        if block.end() >= self.range.end {
            self.prove()?;
        }
        let start = self.range.start.saturating_sub(block.offset);
        let end = self.range.end.min(block.end()) - block.offset;
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        Ok(Some(block.data.slice(within(start)..within(end))))
    }

    fn prove(&mut self) -> Result<(), FetchError> {
        let Some(actual) = self.hasher.take().map(Hasher::finish) else { return Ok(()) };
        let expected = self.digest;
        if actual == expected { Ok(()) } else { Err(FetchError::Digest(Box::new(WrongDigest { expected, actual }))) }
    }
}

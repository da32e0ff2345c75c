//! One client's range of a blob that is on its way.

use std::ops::Range;
use std::sync::Arc;

use atoll_proto::replication::BLOCK_BYTES;
use bytes::Bytes;

use super::fetch::{FetchError, SharedFetch};
use super::map::ReaderId;

/// Reads a range in order, each block as soon as it is here. The last block of a whole blob waits until the digest is
/// proved, so that no client completes a body that is wrong.
pub(crate) struct SharedReader {
    fetch: Arc<SharedFetch>,
    id: ReaderId,
    next: u64,
    end: u64,
    whole: bool,
}

impl SharedReader {
    /// Joins a fetch; `range` is not empty and inside the blob.
    pub(crate) fn new(fetch: Arc<SharedFetch>, range: Range<u64>, keep: bool, complete: bool) -> Self {
        let whole = range == (0..fetch.size);
        let id = fetch.join(block_of(range.start)..block_of(range.end - 1) + 1, keep, complete && whole);
        Self { fetch, id, next: range.start, end: range.end, whole }
    }

    /// The next bytes; `None` after the last ones.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let block = block_of(self.next);
        let end = ((block as u64 + 1) * BLOCK_BYTES).min(self.end);
        self.fetch.advance(self.id, block);
        self.fetch.wait_for(block, self.whole && end == self.end).await?;
        let length = usize::try_from(end - self.next).unwrap_or(usize::MAX);
        let bytes = self.fetch.read(self.next, length).await?;
        self.next = end;
        if self.next == self.end {
            self.fetch.leave(self.id);
        }
        Ok(Some(bytes))
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        self.fetch.leave(self.id);
    }
}

fn block_of(offset: u64) -> usize {
    usize::try_from(offset / BLOCK_BYTES).unwrap_or(usize::MAX)
}

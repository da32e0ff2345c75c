//! The pool as the registry's port: a client's range, from its first bytes on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::{ByteStream, StoreError};
use atoll_metadata::{KvError, read};
use atoll_registry::{MetadataGroupExt, Mode, ReadThrough, ReadThroughError};
use atoll_types::{Digest, RegionId};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::direct::DirectReader;
use super::fetch::{FetchError, SharedFetch};
use super::pool::{FetchPool, Shared};
use super::reader::SharedReader;
use crate::source::TransferError;

/// How often a client that has got nothing yet is started again: after a wrong digest, or when a barrier shows that
/// the blob is elsewhere by now.
const STARTS_MAX: u32 = 3;
/// Longest wait for a barrier when no source has the blob.
const BARRIER_WAIT: Duration = Duration::from_secs(1);

/// The pool as the registry's port.
pub(crate) struct ReadThroughPool(pub(crate) Arc<FetchPool>);

#[async_trait::async_trait]
impl ReadThrough for ReadThroughPool {
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        self.open(digest, range, false).await
    }

    async fn go_on(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        self.open(digest, range, true).await
    }
}

impl ReadThroughPool {
    /// Opens a range in as many starts as it takes; `begun` says that the client has a part of its body already.
    async fn open(&self, digest: &Digest, range: Range<u64>, begun: bool) -> Result<ByteStream, ReadThroughError> {
        let (mut starts, mut alone) = (0, false);
        loop {
            starts += 1;
            match self.start(digest, range.clone(), alone, begun).await {
                Ok(bytes) => return Ok(bytes),
                Err(StartError::Fetch { error: FetchError::Digest(_), .. }) if starts < STARTS_MAX => {}
                // What has arrived cannot be written down here: the client gets it straight from the source.
                Err(StartError::Fetch { error: FetchError::Spool(_), .. }) if !alone => alone = true,
                Err(StartError::Fetch { error: FetchError::Transfer(_), regions })
                    if starts < STARTS_MAX && self.has_moved(digest, &regions).await => {}
                // It may have joined what was begun for somebody who can go elsewhere.
                Err(StartError::Fetch { error: FetchError::Transfer(_), .. }) if begun && starts == 1 => {}
                Err(StartError::Fetch { error: FetchError::NoStream(_) | FetchError::Stopped, .. }) => {
                    return Err(ReadThroughError::Busy);
                }
                Err(StartError::Fetch { error, regions }) => {
                    tracing::warn!(%digest, %error, "a blob that is elsewhere cannot be read");
                    return Err(ReadThroughError::Unreachable(regions));
                }
                Err(StartError::View(error)) => return Err(error.into()),
            }
        }
    }

    /// Whether a barrier shows other regions to hold a blob than those that could not send it.
    async fn has_moved(&self, digest: &Digest, asked: &[RegionId]) -> bool {
        let sources = &self.0.sources;
        if sources.metadata.freshness().mode == Mode::ReadOnly
            || sources.metadata.barrier(Instant::now() + BARRIER_WAIT).await.is_err()
        {
            return false;
        }
        let located = sources.locate(digest).ok().flatten();
        located.is_some_and(|l| l.regions.iter().any(|region| !asked.contains(region)))
    }

    /// Opens a range and waits for its first bytes; `alone` shares nothing and needs no room.
    async fn start(
        &self,
        digest: &Digest,
        range: Range<u64>,
        alone: bool,
        begun: bool,
    ) -> Result<ByteStream, StartError> {
        let located =
            self.0.sources.locate(digest)?.ok_or(TransferError::Unknown(*digest)).map_err(FetchError::from)?;
        let size = located.size;
        if range.end > size {
            return Err(KvError(format!("bytes {range:?} were asked of blob {digest}, which has {size}")).into());
        }
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let (regions, here) = (located.regions, located.here);
        let may_write = self.0.sources.metadata.freshness().mode == Mode::ReadWrite;
        let keep = !here && may_write && self.0.room().check_copy(size).is_ok();
        let complete = keep && !self.is_paused()?;
        let join = |fetch: &Arc<SharedFetch>| {
            if begun {
                fetch.be_patient();
            }
            SharedReader::new(fetch.clone(), range.clone(), keep, complete)
        };
        let shared = if alone { Shared::NoRoom } else { self.0.shared(*digest, size, keep, join).await };
        let reader = match shared {
            Shared::Joined(reader) => Reader::Shared(reader),
            Shared::NoRoom => Reader::Direct(Box::new(DirectReader::new(self.0.clone(), *digest, size, range, begun))),
            Shared::Stopping => return Err(FetchError::Stopped.into()),
        };
        first_bytes(reader).await.map_err(|error| StartError::Fetch { error, regions })
    }

    fn is_paused(&self) -> Result<bool, KvError> {
        let region = &self.0.sources.local.region;
        Ok(self.0.sources.metadata.read(|kv| read::region(kv, region))?.is_none_or(|r| r.paused))
    }
}

/// Why a client gets no first bytes.
#[derive(Debug)]
enum StartError {
    Fetch { error: FetchError, regions: Vec<RegionId> },
    View(KvError),
}

impl From<KvError> for StartError {
    fn from(error: KvError) -> Self {
        Self::View(error)
    }
}

impl From<FetchError> for StartError {
    fn from(error: FetchError) -> Self {
        Self::Fetch { error, regions: Vec::new() }
    }
}

enum Reader {
    Shared(SharedReader),
    Direct(Box<DirectReader>),
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        match self {
            Self::Shared(reader) => reader.next().await,
            Self::Direct(reader) => reader.next().await,
        }
    }
}

async fn first_bytes(mut reader: Reader) -> Result<ByteStream, FetchError> {
    let first = reader.next().await?;
    let rest = stream::try_unfold(reader, |mut reader| async move {
        let next = reader.next().await.map_err(|e| StoreError::Unavailable(e.to_string()))?;
        Ok(next.map(|bytes| (bytes, reader)))
    });
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

//! Proves a blob's digest as its beginning grows, and brings it into the region's store where it is wanted.

use std::sync::Arc;

use atoll_blobstore::VerifyingWriter;
use atoll_proto::replication::BLOCK_BYTES;
use atoll_registry::Room;
use atoll_types::{Digest, Hasher};
use bytes::Bytes;

use super::fetch::{FetchError, SharedFetch};
use crate::keep::{KeepError, Keeper, WrongDigest};

/// Where the bytes go in order.
enum Sink {
    /// Nowhere: they are only hashed.
    Hash(Box<Hasher>),
    /// Into the store, which hashes them too.
    Store(Box<VerifyingWriter>),
}

impl Sink {
    async fn write(&mut self, bytes: Bytes) -> Result<(), KeepError> {
        match self {
            Self::Hash(hasher) => hasher.update(&bytes),
            Self::Store(writer) => writer.write(bytes).await?,
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Hash(hasher) => Hasher::clone(hasher).finish(),
            Self::Store(writer) => writer.digest_so_far(),
        }
    }
}

/// How one pass over the blob ended.
enum Pass {
    /// All of it went through the sink.
    Whole(Sink),
    /// It is to be kept by now, and was only hashed so far.
    Upgrade,
}

/// Runs as long as the fetch does.
pub(crate) async fn verify(fetch: Arc<SharedFetch>, keeper: Keeper, room: Room) {
    loop {
        if fetch.is_verified() && !fetch.keeps() {
            fetch.wait_keep().await;
        }
        match pass(&fetch, &keeper, &room).await {
            Ok(Pass::Upgrade) => {}
            Ok(Pass::Whole(sink)) => {
                if !conclude(&fetch, &keeper, sink).await {
                    return;
                }
            }
            Err(PassError::Keep(error)) => {
                // Readers get theirs all the same: the next pass only hashes.
                tracing::warn!(digest = %fetch.digest, %error, "a blob cannot be brought into the store");
                fetch.set_kept(Err(error.to_string()));
            }
            Err(PassError::Fetch(error)) => return fetch.fail(error),
        }
    }
}

/// What ends a pass early.
enum PassError {
    Keep(KeepError),
    Fetch(FetchError),
}

async fn pass(fetch: &SharedFetch, keeper: &Keeper, room: &Room) -> Result<Pass, PassError> {
    let keep = fetch.keeps();
    let mut sink = None;
    for block in 0..fetch.block_count() {
        fetch.wait_for(block, false).await.map_err(PassError::Fetch)?;
        if !keep && fetch.keeps() {
            return Ok(Pass::Upgrade);
        }
        if keep {
            room.check().map_err(|no_room| PassError::Keep(no_room.into()))?;
        }
        let offset = block as u64 * BLOCK_BYTES;
        let length = usize::try_from(BLOCK_BYTES.min(fetch.size - offset)).unwrap_or(usize::MAX);
        let bytes = fetch.read(offset, length).await.map_err(PassError::Fetch)?;
        // The object is begun when its first block is here: a reader of the end alone leaves no trace in the store.
        let sink = match &mut sink {
            Some(sink) => sink,
            none => none.insert(begin(fetch, keeper, keep).await.map_err(PassError::Keep)?),
        };
        sink.write(bytes).await.map_err(PassError::Keep)?;
        tokio::task::coop::consume_budget().await;
    }
    match sink {
        Some(sink) => Ok(Pass::Whole(sink)),
        None => Ok(Pass::Whole(begin(fetch, keeper, keep).await.map_err(PassError::Keep)?)),
    }
}

async fn begin(fetch: &SharedFetch, keeper: &Keeper, keep: bool) -> Result<Sink, KeepError> {
    if keep {
        Ok(Sink::Store(Box::new(keeper.begin(&fetch.digest).await?)))
    } else {
        Ok(Sink::Hash(Box::new(fetch.digest.algorithm().hasher())))
    }
}

/// Compares, tells the readers, then makes it durable and records it. False when the fetch has failed.
async fn conclude(fetch: &SharedFetch, keeper: &Keeper, sink: Sink) -> bool {
    let actual = sink.digest();
    if actual != fetch.digest {
        fetch.fail(FetchError::Digest(Box::new(WrongDigest { expected: fetch.digest, actual })));
        return false;
    }
    fetch.set_verified();
    if let Sink::Store(writer) = sink {
        let kept = keeper.finish(*writer, &fetch.digest).await;
        fetch.set_kept(kept.map_err(|error| error.to_string()));
    }
    true
}

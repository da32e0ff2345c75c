//! The bytes of a blob: from this region's copy, else from another region, and from one to the other in mid-stream.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::{ByteStream, CheckedReader, StoreError};
use atoll_fault::planted;
use atoll_metadata::{DropItem, Rejection, read};
use atoll_types::{Digest, Hasher, ObjectName, RegionId};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use crate::planted;
use crate::suspects::Suspects;
use crate::view::View;
use crate::{ReadThrough, ReadThroughError, RegistryError, as_of};

/// How long a reader that finds a copy missing waits for a barrier before it looks for others.
const BARRIER_WAIT: Duration = Duration::from_secs(5);
/// How often one read changes its source before it gives up.
const SOURCES_MAX: usize = 8;

/// Reads blobs, wherever they are.
pub(crate) struct BlobReader {
    pub(crate) view: View,
    checked: CheckedReader,
    read_through: Arc<dyn ReadThrough>,
    suspects: Suspects,
}

/// What the client of a read has got so far.
#[derive(Clone, Copy)]
enum Stage {
    Nothing,
    APart,
}

/// Where bytes come from at the moment.
struct Source {
    stream: ByteStream,
    /// The object, if it is this region's copy.
    local: Option<ObjectName>,
}

/// A read under way.
struct Read {
    reader: Arc<BlobReader>,
    digest: Digest,
    size: u64,
    /// What has not been handed on yet.
    left: Range<u64>,
    /// How the digest is proved.
    proof: Proof,
    /// Bytes of the source that were handed on from an earlier one.
    skip: u64,
    source: Source,
    /// Copies of this region that have failed this read.
    avoid: Vec<ObjectName>,
    sources: usize,
}

/// What proves the digest of a read that changes its source. One source proves itself: this region's copy by the
/// checksums of its blocks, another region's as a whole by holding its last block back. What is put together of two
/// must be proved here, or the end of one would complete the wrong beginning of the other.
enum Proof {
    /// A range: each block is checked, and no more is promised.
    Range,
    /// All of a blob, begun with this region's copy: who goes on reads all of it, and is proved as a whole. Only the
    /// first other source is: what a second one left behind, nobody has proved.
    Local { others: bool },
    /// All of a blob, begun with another region's: what is handed on is hashed.
    Hashed(Box<Hasher>),
}

impl Proof {
    fn of(digest: &Digest, size: u64, range: &Range<u64>, source: &Source) -> Self {
        match (*range == (0..size), source.local) {
            (false, _) => Self::Range,
            (true, Some(_)) => Self::Local { others: false },
            (true, None) => Self::Hashed(Box::new(digest.algorithm().hasher())),
        }
    }
}

impl BlobReader {
    pub(crate) fn new(
        view: View,
        checked: CheckedReader,
        read_through: Arc<dyn ReadThrough>,
        suspects: Suspects,
    ) -> Self {
        Self { view, checked, read_through, suspects }
    }

    /// The bytes of a range of a blob. It returns once the first bytes are at hand, so that an error can still be a
    /// status; what fails later on is continued from another copy at the same byte.
    pub(crate) async fn read(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<ByteStream, RegistryError> {
        if range.start > range.end || range.end > size {
            return Err(StoreError::Other(format!("bytes {range:?} were asked of a blob of {size}")).into());
        }
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let mut avoid = Vec::new();
        let source = self.find(digest, size, range.clone(), Stage::Nothing, &mut avoid).await?;
        let (reader, digest, proof) = (self.clone(), *digest, Proof::of(digest, size, &range, &source));
        let read = Read { reader, digest, size, left: range, proof, skip: 0, source, avoid, sources: 1 };
        Ok(stream::try_unfold(read, Read::next).boxed())
    }

    /// All bytes of a blob that is at most `limit` bytes long, proved by its digest.
    pub(crate) async fn whole(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        if size > limit {
            return Err(RegistryError::ManifestTooLarge { actual: size, limit });
        }
        let mut stream = self.read(digest, size, 0..size).await?;
        let mut all = BytesMut::with_capacity(size as usize);
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        let actual = digest.algorithm().digest(&all);
        if actual != *digest {
            return Err(RegistryError::DigestMismatch { expected: *digest, actual });
        }
        Ok(all.freeze())
    }

    /// A source for a range. Where all known ones fail, a barrier may show others, or that the blob is gone.
    async fn find(
        &self,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
        stage: Stage,
        avoid: &mut Vec<ObjectName>,
    ) -> Result<Source, RegistryError> {
        let before = as_of::noted();
        match self.find_once(digest, size, range.clone(), stage, avoid).await {
            Err(RegistryError::Elsewhere { .. } | RegistryError::Damaged { .. }) => {}
            found => return found,
        }
        // A barrier that fails is no reason to stop: what is applied here may have changed meanwhile.
        let _ = self.view.refresh(Instant::now() + BARRIER_WAIT).await;
        as_of::forget_since(before);
        self.find_once(digest, size, range, stage, avoid).await
    }

    async fn find_once(
        &self,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
        stage: Stage,
        avoid: &mut Vec<ObjectName>,
    ) -> Result<Source, RegistryError> {
        let region = &self.view.config.region;
        let Some(blob) = self.view.read(|kv| read::blob(kv, digest))? else {
            return Err(Rejection::BlobUnknown(*digest).into());
        };
        let here = blob.copies.iter().find(|(r, object)| r == region && !avoid.contains(object));
        if let Some((_, object)) = here {
            match self.checked.read(object, digest, size, range.clone()).await {
                Ok(stream) => return Ok(Source { stream, local: Some(*object) }),
                Err(error) => self.distrust(digest, *object, &error, avoid),
            }
        }
        let from_afar = match stage {
            _ if planted!("read_through_refused") => Err(ReadThroughError::Unreachable(Vec::new())),
            Stage::Nothing => self.read_through.read(digest, range).await,
            Stage::APart => self.read_through.go_on(digest, range).await,
        };
        match from_afar {
            Ok(stream) => Ok(Source { stream, local: None }),
            Err(ReadThroughError::Busy) => Err(RegistryError::Busy(ReadThroughError::Busy.to_string())),
            Err(ReadThroughError::View(error)) => Err(error.into()),
            Err(ReadThroughError::Unreachable(_)) if blob.suspect => {
                let regions = blob.copies.into_iter().map(|(region, _)| region).collect();
                Err(RegistryError::Damaged { digest: *digest, regions })
            }
            Err(ReadThroughError::Unreachable(regions)) => {
                let regions = if regions.is_empty() { elsewhere(&blob, region) } else { regions };
                Err(RegistryError::Elsewhere { digest: *digest, regions })
            }
        }
    }

    /// A copy has failed this read. If it is the copy's own fault, its record is dropped, or marked where it is the last
    /// one; if the store does not answer, another region serves meanwhile.
    fn distrust(&self, digest: &Digest, object: ObjectName, error: &StoreError, avoid: &mut Vec<ObjectName>) {
        tracing::warn!(%digest, %object, %error, "a copy of this region cannot be read; another region's is used");
        avoid.push(object);
        if matches!(error, StoreError::NotFound(_) | StoreError::Corrupt { .. }) {
            self.suspects.report(DropItem { digest: *digest, object });
        }
    }
}

fn elsewhere(blob: &read::Blob, region: &RegionId) -> Vec<RegionId> {
    blob.copies.iter().map(|(r, _)| r).filter(|r| *r != region).cloned().collect()
}

impl Read {
    /// The next bytes. A stream that ends early has failed, too.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        while !self.left.is_empty() {
            let error = match self.source.stream.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => match self.take(bytes)? {
                    Some(bytes) => return Ok(Some((bytes, self))),
                    None => continue,
                },
                Some(Err(error)) => error,
                None => StoreError::Unavailable(format!("the source of {} ended early", self.digest)),
            };
            self.change_source(error).await?;
        }
        Ok(None)
    }

    /// What is handed on of a piece; `None` if all of it was before. The last piece only if the whole is right.
    fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, StoreError> {
        let before = self.skip.min(bytes.len() as u64);
        self.skip -= before;
        bytes.advance(before as usize);
        let wanted = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
        bytes.truncate(wanted);
        if bytes.is_empty() {
            return Ok(None);
        }
        self.left.start += bytes.len() as u64;
        planted::sent(&bytes);
        match &mut self.proof {
            Proof::Range => {}
            Proof::Local { others } => *others |= self.source.local.is_none(),
            Proof::Hashed(hasher) => {
                hasher.update(&bytes);
                if self.left.is_empty() && Hasher::clone(hasher).finish() != self.digest {
                    let digest = self.digest;
                    return Err(StoreError::Other(format!("what other regions sent for {digest} is something else")));
                }
            }
        }
        Ok(Some(bytes))
    }

    /// Goes on from another copy, at the byte where this one failed: the client never notices.
    async fn change_source(&mut self, error: StoreError) -> Result<(), StoreError> {
        if let Some(object) = self.source.local {
            self.reader.distrust(&self.digest, object, &error, &mut self.avoid);
        }
        if self.sources >= SOURCES_MAX || matches!(self.proof, Proof::Local { others: true }) {
            return Err(error);
        }
        self.sources += 1;
        let from_the_start = matches!(self.proof, Proof::Local { .. });
        let range = if from_the_start { 0..self.size } else { self.left.clone() };
        self.skip = if planted!("resumed_at_the_wrong_byte") { 0 } else { self.left.start - range.start };
        let found = self.reader.find(&self.digest, self.size, range, Stage::APart, &mut self.avoid).await;
        self.source = found.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(())
    }
}

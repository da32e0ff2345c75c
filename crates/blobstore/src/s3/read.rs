//! Reading objects of a bucket.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use atoll_types::ObjectName;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use super::api::{Got, Head};
use super::error::{Cause, Failure, said};
use super::write::{BLOCKS, TOKEN};
use super::{S3Options, Shared, marker};
use crate::{BlockChecksums, ByteStream, ObjectInfo, StoreError, footer};

/// Longest piece, in bytes.
const PIECE_BYTES_MAX: usize = BlockChecksums::BLOCK_BYTES as usize;
/// How often a download that ends early begins again without having brought anything in between.
const FRUITLESS_MAX: u32 = 3;

pub(super) async fn stat(shared: &Shared, name: ObjectName) -> Result<ObjectInfo, StoreError> {
    let head = head(shared, name).await?;
    if let Some(digits) = head.metadata.get(BLOCKS) {
        decode(name, &head, digits)?;
    }
    Ok(ObjectInfo { name, size: head.size })
}

/// The checksums of an object: its metadata has those of a small one, an object of their own those of a large one.
pub(super) async fn checksums(shared: &Shared, name: ObjectName) -> Result<BlockChecksums, StoreError> {
    let head = head(shared, name).await?;
    if let Some(digits) = head.metadata.get(BLOCKS) {
        return decode(name, &head, digits);
    }
    let Some(token) = head.metadata.get(TOKEN) else {
        return Err(corrupt(
            name,
            "its metadata is gone: it is not what was uploaded, or the server keeps none".into(),
        ));
    };
    let largest = (shared.options.part_bytes * S3Options::PARTS_MAX) as u64;
    let bytes_max = footer::footer_bytes(head.size.min(largest));
    match shared.api.get_all(&shared.keys.checksums(&name, token), bytes_max).await {
        Ok(bytes) => footer::decode(&name, head.size, &bytes).map_err(|detail| corrupt(name, detail)),
        // Only where the object itself is still there is it its checksums that are missing.
        Err(failure) if failure.cause == Cause::Missing => {
            self::head(shared, name).await?;
            Err(corrupt(name, format!("its checksums are gone: {}", failure.text)))
        }
        Err(failure) => Err(failure.into_store_error()),
    }
}

/// Removes an object, and its checksums after it: an object that is there has them.
pub(super) async fn delete(shared: &Shared, name: ObjectName) -> Result<(), StoreError> {
    let key = shared.keys.object(&name);
    let head = match shared.api.head(&key).await {
        Ok(head) => Some(head),
        Err(failure) if failure.cause == Cause::Missing => None,
        Err(failure) => return Err(failure.into_store_error()),
    };
    // Also what was not found: who looks may be told of the past.
    shared.api.delete(&key).await.map_err(Failure::into_store_error)?;
    let token =
        head.as_ref().filter(|head| !head.metadata.contains_key(BLOCKS)).and_then(|head| head.metadata.get(TOKEN));
    match token {
        Some(token) => {
            let removed = shared.api.delete(&shared.keys.checksums(&name, token)).await;
            removed.map_err(Failure::into_store_error)
        }
        None => Ok(()),
    }
}

fn decode(name: ObjectName, head: &Head, digits: &str) -> Result<BlockChecksums, StoreError> {
    let bytes = const_hex::decode(digits).map_err(|e| corrupt(name, format!("its metadata is no footer: {e}")))?;
    footer::decode(&name, head.size, &bytes).map_err(|detail| corrupt(name, detail))
}

async fn head(shared: &Shared, name: ObjectName) -> Result<Head, StoreError> {
    match shared.api.head(&shared.keys.object(&name)).await {
        Err(failure) if failure.cause == Cause::Missing => missing(shared, name).await,
        other => other.map_err(Failure::into_store_error),
    }
}

/// What is said to be missing is looked for once more, after the store was seen to be there: a bucket that is gone, or
/// another one now, must never look like an empty store, or all of its copies would be given up.
async fn missing(shared: &Shared, name: ObjectName) -> Result<Head, StoreError> {
    marker::check_identity(shared).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    match shared.api.head(&shared.keys.object(&name)).await {
        Err(failure) if failure.cause == Cause::Missing => Err(StoreError::NotFound(name)),
        other => other.map_err(Failure::into_store_error),
    }
}

/// The bytes of a range. The answer has begun when this returns.
pub(super) async fn stream(
    shared: &Arc<Shared>,
    name: ObjectName,
    range: Range<u64>,
) -> Result<ByteStream, StoreError> {
    // Nothing can be asked of a range that is empty, or that no object has; the size says what it is.
    if range.is_empty() || range.end > i64::MAX as u64 {
        let size = head(shared, name).await?.size;
        check_range(name, &range, size)?;
        return Ok(stream::empty().boxed());
    }
    let got = open(shared, name, &range).await?;
    let download =
        Download { shared: shared.clone(), name, left: range, body: Some(got), pieces: VecDeque::new(), fruitless: 0 };
    Ok(stream::try_unfold(download, Download::next).boxed())
}

async fn open(shared: &Shared, name: ObjectName, range: &Range<u64>) -> Result<Got, StoreError> {
    let key = shared.keys.object(&name);
    match shared.api.get(&key, (range.start, range.end)).await {
        Ok(got) => {
            check_range(name, range, got.size)?;
            if got.length < range.end - range.start {
                let (have, want) = (got.length, range.end - range.start);
                return Err(StoreError::Unavailable(format!("{name}: {have} bytes came of a range of {want}")));
            }
            Ok(got)
        }
        Err(failure) if failure.cause == Cause::Range => {
            let size = head(shared, name).await?.size;
            check_range(name, range, size)?;
            Err(failure.into_store_error())
        }
        Err(failure) if failure.cause == Cause::Missing => {
            missing(shared, name).await?;
            Err(StoreError::Unavailable(format!("{}; and a moment later it was there", failure.text)))
        }
        Err(failure) => Err(failure.into_store_error()),
    }
}

/// A range on its way. What ends early is asked for again from where it ended.
struct Download {
    shared: Arc<Shared>,
    name: ObjectName,
    left: Range<u64>,
    body: Option<Got>,
    /// What came in one piece that is too long.
    pieces: VecDeque<Bytes>,
    fruitless: u32,
}

impl Download {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some((piece, self)));
            }
            if self.left.is_empty() {
                return Ok(None);
            }
            let Some(got) = &mut self.body else {
                self.body = Some(open(&self.shared, self.name, &self.left).await?);
                continue;
            };
            match tokio::time::timeout(self.shared.options.idle_timeout, got.body.next()).await {
                Ok(Some(Ok(bytes))) => self.take(bytes),
                Ok(Some(Err(error))) => self.ended(&said(&error))?,
                Ok(None) => self.ended("it ended early")?,
                Err(_) => self.ended("nothing came for too long")?,
            }
        }
    }

    fn take(&mut self, mut bytes: Bytes) {
        let left = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
        bytes.truncate(left);
        self.left.start += bytes.len() as u64;
        if !bytes.is_empty() {
            self.fruitless = 0;
        }
        while !bytes.is_empty() {
            self.pieces.push_back(bytes.split_to(bytes.len().min(PIECE_BYTES_MAX)));
        }
    }

    fn ended(&mut self, why: &str) -> Result<(), StoreError> {
        self.body = None;
        self.fruitless += 1;
        if self.fruitless < FRUITLESS_MAX {
            return Ok(());
        }
        let (bucket, at) = (self.shared.api.bucket(), self.left.start);
        Err(StoreError::Unavailable(format!("GetObject of {bucket}/{} at byte {at}: {why}", self.name)))
    }
}

fn check_range(name: ObjectName, range: &Range<u64>, size: u64) -> Result<(), StoreError> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(corrupt(name, format!("bytes {range:?} were asked for, and it has {size}")))
}

fn corrupt(object: ObjectName, detail: String) -> StoreError {
    StoreError::Corrupt { object, detail }
}

//! The way out: no byte leaves that was not checked.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use atoll_fault::planted;
use atoll_types::{Digest, ObjectName};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::{BlobStore, BlockChecksums, ByteStream, StoreError, block_checksum};

const BLOCK: u64 = BlockChecksums::BLOCK_BYTES;

/// One checked block of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the object, in bytes: a multiple of [`BlockChecksums::BLOCK_BYTES`].
    pub offset: u64,
    /// The bytes: a whole block, or what there is at the end of the object.
    pub bytes: Bytes,
    /// XXH3-64 of the bytes, to be checked again wherever they arrive.
    pub checksum: u64,
}

/// Checked blocks in order; an error ends the stream.
pub type BlockStream = BoxStream<'static, Result<Block, StoreError>>;

/// Reads a store and checks what it reads. One for each store and process: it keeps the checksums of what is read
/// often.
pub struct CheckedReader {
    store: Arc<dyn BlobStore>,
    cache: Cache<ObjectName, Arc<BlockChecksums>, ByBytes>,
}

/// What is read: an object, and what it must be.
#[derive(Clone, Copy)]
struct Wanted {
    name: ObjectName,
    digest: Digest,
    size: u64,
}

impl CheckedReader {
    /// A bound for the cache of checksums that serves most: 32 MiB cover a TiB of objects.
    pub const CACHE_BYTES: u64 = 32 << 20;

    /// Reads from a store, with at most `cache_bytes` of checksums kept.
    pub fn new(store: Arc<dyn BlobStore>, cache_bytes: u64) -> Self {
        let items = (cache_bytes / 128).clamp(64, 1 << 20) as usize;
        Self { store, cache: Cache::with_weighter(items, cache_bytes, ByBytes) }
    }

    /// The store, unchecked.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// The bytes of a range of an object that must have this digest and size. The first block is checked before this
    /// returns, so that a missing or corrupt object can still be answered with a status, or read elsewhere. An error
    /// later on ends the stream before the first wrong byte.
    pub async fn read(
        &self,
        name: &ObjectName,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<ByteStream, StoreError> {
        let blocks = self.blocks(name, digest, size, range.clone()).await?;
        let trimmed = blocks.map_ok(move |block| trim(block, &range));
        Ok(trimmed.try_filter(|bytes| std::future::ready(!bytes.is_empty())).boxed())
    }

    /// The checked blocks that cover a range, each with its checksum, for who sends them on. They are whole: the
    /// range is widened to the borders of blocks. Otherwise as [`CheckedReader::read`].
    pub async fn blocks(
        &self,
        name: &ObjectName,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<BlockStream, StoreError> {
        let wanted = Wanted { name: *name, digest: *digest, size };
        if range.start > range.end || range.end > size {
            return Err(StoreError::Other(format!("bytes {range:?} were asked of {name}, which has {size}")));
        }
        if size <= BlockChecksums::WHOLE_BYTES_MAX {
            let block = self.whole(wanted).await?;
            return Ok(stream::once(std::future::ready(Ok(block))).boxed());
        }
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        self.checked_blocks(wanted, widen(&range, size)).await
    }

    /// A small object, checked by its digest.
    async fn whole(&self, wanted: Wanted) -> Result<Block, StoreError> {
        let source = self.store.read(&wanted.name, 0..wanted.size).await?;
        let bytes = Reassembler::new(source).take(wanted.size, &wanted.name).await?;
        let actual = wanted.digest.algorithm().digest(&bytes);
        if actual != wanted.digest && !planted!("blocks_unchecked") {
            return Err(corrupt(&wanted.name, format!("its digest is {actual}, not {}", wanted.digest)));
        }
        Ok(Block { offset: 0, checksum: block_checksum(&bytes), bytes })
    }

    async fn checked_blocks(&self, wanted: Wanted, range: Range<u64>) -> Result<BlockStream, StoreError> {
        let checksums = self.checksums(wanted).await?;
        let source = self.store.read(&wanted.name, range.clone()).await?;
        let reading = Reading { wanted, checksums, left: range, source: Reassembler::new(source) };
        let mut blocks = Box::pin(stream::try_unfold(reading, Reading::next));
        let first = blocks.try_next().await?;
        Ok(stream::iter(first.map(Ok)).chain(blocks).boxed())
    }

    /// The checksums of an object: cached, or from the store and cached from now on. A name is never used twice, so
    /// what is cached cannot become wrong.
    async fn checksums(&self, wanted: Wanted) -> Result<Arc<BlockChecksums>, StoreError> {
        if let Some(known) = self.cache.get(&wanted.name) {
            return counted(known, wanted);
        }
        let checksums = counted(self.store.checksums(&wanted.name).await?, wanted)?;
        self.cache.insert(wanted.name, checksums.clone());
        Ok(checksums)
    }
}

fn counted(checksums: Arc<BlockChecksums>, wanted: Wanted) -> Result<Arc<BlockChecksums>, StoreError> {
    let (have, want) = (checksums.0.len() as u64, BlockChecksums::count_for(wanted.size));
    if have == want {
        return Ok(checksums);
    }
    Err(corrupt(&wanted.name, format!("it has {have} block checksums, and a size of {} asks for {want}", wanted.size)))
}

/// A run of blocks on its way out.
struct Reading {
    wanted: Wanted,
    checksums: Arc<BlockChecksums>,
    left: Range<u64>,
    source: Reassembler,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Block, Self)>, StoreError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let offset = self.left.start;
        let bytes = self.source.take(BLOCK.min(self.left.end - offset), &self.wanted.name).await?;
        let checksum = block_checksum(&bytes);
        if self.checksums.0.get((offset / BLOCK) as usize) != Some(&checksum) && !planted!("blocks_unchecked") {
            let detail = format!("the block at byte {offset} does not match its checksum");
            return Err(corrupt(&self.wanted.name, detail));
        }
        self.left.start += bytes.len() as u64;
        Ok(Some((Block { offset, bytes, checksum }, self)))
    }
}

/// Makes runs of a wanted length out of pieces of any length.
struct Reassembler {
    source: ByteStream,
    rest: Bytes,
}

impl Reassembler {
    fn new(source: ByteStream) -> Self {
        Self { source, rest: Bytes::new() }
    }

    /// The next bytes, exactly this many. A piece that fits is handed on without copying.
    async fn take(&mut self, count: u64, name: &ObjectName) -> Result<Bytes, StoreError> {
        let count = count as usize;
        let mut gathered = BytesMut::new();
        loop {
            if gathered.is_empty() && self.rest.len() >= count {
                return Ok(self.rest.split_to(count));
            }
            let missing = count - gathered.len();
            gathered.extend_from_slice(&self.rest.split_to(self.rest.len().min(missing)));
            if gathered.len() == count {
                return Ok(gathered.freeze());
            }
            self.rest = match Pin::new(&mut self.source).next().await {
                Some(piece) => piece?,
                None => return Err(corrupt(name, format!("it ends {} bytes early", count - gathered.len()))),
            };
        }
    }
}

fn widen(range: &Range<u64>, size: u64) -> Range<u64> {
    range.start / BLOCK * BLOCK..range.end.div_ceil(BLOCK).saturating_mul(BLOCK).min(size)
}

fn trim(block: Block, range: &Range<u64>) -> Bytes {
    let end = block.offset + block.bytes.len() as u64;
    let (from, to) = (range.start.clamp(block.offset, end), range.end.clamp(block.offset, end));
    block.bytes.slice((from - block.offset) as usize..(to.max(from) - block.offset) as usize)
}

fn corrupt(object: &ObjectName, detail: String) -> StoreError {
    StoreError::Corrupt { object: *object, detail }
}

/// Weighs an entry by the memory that it takes.
#[derive(Clone)]
struct ByBytes;

impl Weighter<ObjectName, Arc<BlockChecksums>> for ByBytes {
    fn weight(&self, _: &ObjectName, checksums: &Arc<BlockChecksums>) -> u64 {
        96 + 8 * checksums.0.len() as u64
    }
}

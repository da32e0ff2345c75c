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
    cache: Arc<Checksums>,
}

/// Checksums of objects that are read often.
type Checksums = Cache<ObjectName, Arc<BlockChecksums>, ByBytes>;

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
        Self { store, cache: Arc::new(Cache::with_weighter(items, cache_bytes, ByBytes)) }
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

    /// A small object, checked by its digest; what does not match is read once more.
    async fn whole(&self, wanted: Wanted) -> Result<Block, StoreError> {
        match self.whole_once(wanted).await {
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::warn!(object = %wanted.name, %error, "an object is not what it must be; it is read once more");
                self.whole_once(wanted).await
            }
            other => other,
        }
    }

    async fn whole_once(&self, wanted: Wanted) -> Result<Block, StoreError> {
        let source = self.store.read(&wanted.name, 0..wanted.size).await?;
        let bytes = Reassembler::new(source).take(wanted.size, &wanted.name).await?;
        let actual = wanted.digest.algorithm().digest(&bytes);
        if actual != wanted.digest && !planted!("blocks_unchecked") {
            return Err(corrupt(&wanted.name, format!("its digest is {actual}, not {}", wanted.digest)));
        }
        Ok(Block { offset: 0, checksum: block_checksum(&bytes), bytes })
    }

    async fn checked_blocks(&self, wanted: Wanted, range: Range<u64>) -> Result<BlockStream, StoreError> {
        let object = Object { wanted, store: self.store.clone(), cache: self.cache.clone() };
        let checksums = object.checksums().await?;
        let source = Reassembler::new(self.store.read(&wanted.name, range.clone()).await?);
        let reading = Reading { object, checksums, left: range, source };
        let mut blocks = Box::pin(stream::try_unfold(reading, Reading::next));
        let first = blocks.try_next().await?;
        Ok(stream::iter(first.map(Ok)).chain(blocks).boxed())
    }
}

/// An object whose blocks are checked one by one.
struct Object {
    wanted: Wanted,
    store: Arc<dyn BlobStore>,
    cache: Arc<Checksums>,
}

impl Object {
    /// The checksums: cached, or from the store and cached from now on. A name is never used twice, so that what is
    /// cached does not grow old.
    async fn checksums(&self) -> Result<Arc<BlockChecksums>, StoreError> {
        if let Some(known) = self.cache.get(&self.wanted.name) {
            return counted(known, self.wanted);
        }
        let checksums = counted(self.store.checksums(&self.wanted.name).await?, self.wanted)?;
        self.cache.insert(self.wanted.name, checksums.clone());
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
    object: Object,
    checksums: Arc<BlockChecksums>,
    left: Range<u64>,
    source: Reassembler,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Block, Self)>, StoreError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let (offset, length) = (self.left.start, BLOCK.min(self.left.end - self.left.start));
        let block = match self.take(offset, length).await {
            Err(StoreError::Corrupt { .. }) => self.look_again(offset, length).await?,
            taken => taken?,
        };
        self.left.start += block.bytes.len() as u64;
        Ok(Some((block, self)))
    }

    /// The next block from the source, checked.
    async fn take(&mut self, offset: u64, length: u64) -> Result<Block, StoreError> {
        let name = &self.object.wanted.name;
        let bytes = self.source.take(length, name).await?;
        let checksum = block_checksum(&bytes);
        if self.checksums.0.get((offset / BLOCK) as usize) != Some(&checksum) && !planted!("blocks_unchecked") {
            return Err(corrupt(name, format!("the block at byte {offset} does not match its checksum")));
        }
        Ok(Block { offset, bytes, checksum })
    }

    /// Reads a block once more that did not match its checksum, and its checksum, too: what was wrong may have been so on
    /// its way only, and what is kept of it would be wrong for good. What follows is read anew.
    async fn look_again(&mut self, offset: u64, length: u64) -> Result<Block, StoreError> {
        let name = self.object.wanted.name;
        tracing::warn!(object = %name, offset, "a block does not match its checksum; both are read once more");
        self.object.cache.remove(&name);
        self.checksums = self.object.checksums().await?;
        self.source = Reassembler::new(self.object.store.read(&name, offset..self.left.end).await?);
        self.take(offset, length).await
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

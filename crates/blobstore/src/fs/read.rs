//! Reading objects of a folder.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use atoll_types::ObjectName;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};

use super::Shared;
use super::buffers::Buffers;
use crate::{BlockChecksums, ByteStream, ObjectInfo, StoreError, footer};

/// Longest piece, in bytes. Pieces begin and end at multiples of it, so that each is a block.
pub(super) const PIECE_BYTES: u64 = BlockChecksums::BLOCK_BYTES;
/// How many pieces of one stream are read before they are asked for.
const READ_AHEAD_PIECES: usize = 2;

/// The size of an object, if the end of its file is sound.
pub(super) fn stat(shared: &Shared, name: ObjectName) -> Result<ObjectInfo, StoreError> {
    let (file, size) = open(shared, name)?;
    decode_footer(&file, name, size)?;
    Ok(ObjectInfo { name, size })
}

/// The checksums of an object.
pub(super) fn checksums(shared: &Shared, name: ObjectName) -> Result<BlockChecksums, StoreError> {
    let (file, size) = open(shared, name)?;
    decode_footer(&file, name, size)
}

/// The bytes of a range. The first piece is read by the call that opens the file.
pub(super) async fn stream(
    shared: &Arc<Shared>,
    name: ObjectName,
    range: Range<u64>,
) -> Result<ByteStream, StoreError> {
    if let Some(bytes) = from_memory(shared, name, &range) {
        return Ok(stream::once(std::future::ready(Ok(bytes))).boxed());
    }
    let (first, rest) = split_first(range.clone());
    let opened = shared.clone();
    let (file, bytes) = shared
        .pool
        .run(move || {
            let (file, size) = open(&opened, name)?;
            check_range(name, &range, size)?;
            let bytes = read_piece(&opened.buffers, &file, name, first)?;
            Ok((file, bytes))
        })
        .await?;
    Ok(with_rest(shared, name, file, bytes, rest))
}

/// A short range, if memory has it and nothing is wrong with it.
fn from_memory(shared: &Shared, name: ObjectName, range: &Range<u64>) -> Option<Bytes> {
    let (bytes, length) = shared.memory.read(&shared.path(&name), range)?;
    let inside = footer::size_of(length).is_some_and(|size| range.end <= size);
    inside.then(|| Bytes::from(bytes))
}

/// The first piece, then the others, read a bounded distance ahead.
fn with_rest(shared: &Arc<Shared>, name: ObjectName, file: File, first: Bytes, rest: Range<u64>) -> ByteStream {
    if first.is_empty() {
        return stream::empty().boxed();
    }
    let first = stream::once(std::future::ready(Ok(first)));
    if rest.is_empty() {
        return first.boxed();
    }
    let (shared, file) = (shared.clone(), Arc::new(file));
    let others = stream::iter(pieces(rest)).map(move |piece| {
        let file = file.clone();
        let buffers = shared.buffers.clone();
        let mut started = shared.pool.start(move || read_piece(&buffers, &file, name, piece));
        let shared = shared.clone();
        async move { shared.pool.wait(&mut started).await }
    });
    first.chain(others.buffered(READ_AHEAD_PIECES)).boxed()
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut left = range;
    std::iter::from_fn(move || {
        let (piece, rest) = split_first(left.clone());
        left = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn split_first(range: Range<u64>) -> (Range<u64>, Range<u64>) {
    let border = (range.start / PIECE_BYTES * PIECE_BYTES).saturating_add(PIECE_BYTES);
    let border = border.min(range.end).max(range.start);
    (range.start..border, border..range.end)
}

/// An object's file, and the size that its length says.
fn open(shared: &Shared, name: ObjectName) -> Result<(File, u64), StoreError> {
    let failed = |e: std::io::Error| shared.object_error(&name, "opening", &e);
    let file = File::open(shared.path(&name)).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let size = footer::size_of(length)
        .ok_or_else(|| corrupt(name, format!("no object has a file of {length} bytes; it was cut off")))?;
    Ok((file, size))
}

fn check_range(name: ObjectName, range: &Range<u64>, size: u64) -> Result<(), StoreError> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(corrupt(name, format!("bytes {range:?} were asked for, and it has {size}")))
}

fn decode_footer(file: &File, name: ObjectName, size: u64) -> Result<BlockChecksums, StoreError> {
    let count = footer::footer_bytes(size) as usize;
    let bytes = read_exactly(file, name, size, count, Vec::with_capacity(count))?;
    footer::decode(&name, size, &bytes).map_err(|detail| corrupt(name, detail))
}

fn read_piece(buffers: &Buffers, file: &File, name: ObjectName, piece: Range<u64>) -> Result<Bytes, StoreError> {
    let count = (piece.end - piece.start) as usize;
    let bytes = read_exactly(file, name, piece.start, count, buffers.take(count))?;
    Ok(buffers.lend(bytes))
}

/// Fills an empty buffer.
fn read_exactly(
    file: &File,
    name: ObjectName,
    offset: u64,
    count: usize,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, StoreError> {
    while bytes.len() < count {
        let (at, missing) = (offset + bytes.len() as u64, count - bytes.len());
        // Straight into the spare room: nothing is zeroed first. There may be more room than was asked for.
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(corrupt(name, format!("its file ends {missing} bytes early"))),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(super::error::object_error(&name, "reading", &error.into())),
        }
    }
    bytes.truncate(count);
    Ok(bytes)
}

fn corrupt(object: ObjectName, detail: String) -> StoreError {
    StoreError::Corrupt { object, detail }
}

//! Whatever happens to a file, no wrong byte is read from it.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use atoll_blobstore::contract::content;
use atoll_blobstore::{
    BlobStore, BlockChecksums, CheckedReader, Finished, FsOptions, FsStore, MemoryStore, StoreError, VerifyingWriter,
};
use atoll_types::{Algorithm, Digest, ObjectName};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use proptest::prelude::*;

const BLOCK: usize = BlockChecksums::BLOCK_BYTES as usize;
const WHOLE: usize = BlockChecksums::WHOLE_BYTES_MAX as usize;

struct Fixture {
    folder: tempfile::TempDir,
    store: Arc<dyn BlobStore>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FsStore::open(folder.path().to_owned(), FsOptions::default()).unwrap());
        Self { folder, store }
    }

    fn path(&self, object: &Finished) -> PathBuf {
        self.folder.path().join(object.object.to_string())
    }

    /// Reads with a cold cache, as after a restart.
    async fn read(&self, of: &Finished, range: Range<u64>) -> (Vec<u8>, Option<StoreError>) {
        read(&CheckedReader::new(self.store.clone(), 1 << 20), of, range).await
    }
}

async fn put(store: &Arc<dyn BlobStore>, bytes: &[u8]) -> Finished {
    let mut writer = VerifyingWriter::create(store, ObjectName::random(1), Algorithm::Sha256).await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.finish(&Digest::sha256(bytes)).await.unwrap()
}

/// What came before the end, and the error if that was the end.
async fn read(reader: &CheckedReader, of: &Finished, range: Range<u64>) -> (Vec<u8>, Option<StoreError>) {
    let mut got = Vec::new();
    let mut body = match reader.read(&of.object, &of.digest, of.size, range).await {
        Ok(body) => body,
        Err(error) => return (got, Some(error)),
    };
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}

fn assert_corrupt(what: &str, of: &Finished, error: Option<StoreError>) {
    let is_corrupt = matches!(&error, Some(StoreError::Corrupt { object, .. }) if *object == of.object);
    assert!(is_corrupt, "{what}: {error:?}");
}

#[tokio::test]
async fn a_flipped_bit_of_the_bytes_is_never_read() {
    let fixture = Fixture::new();
    for size in [1, WHOLE, WHOLE + 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
        let bytes = content(size, 1);
        let of = put(&fixture.store, &bytes).await;
        let good = std::fs::read(fixture.path(&of)).unwrap();
        for at in [0, 1, size / 2, BLOCK - 1, BLOCK, 2 * BLOCK, size - 1].into_iter().filter(|at| *at < size) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(fixture.path(&of), &bad).unwrap();
            let what = format!("byte {at} of {size}");
            let (got, error) = fixture.read(&of, 0..of.size).await;
            assert_corrupt(&what, &of, error);
            assert!(bytes.starts_with(&got) && got.len() <= at, "{what}: {} bytes came first", got.len());
            let (got, error) = fixture.read(&of, at as u64..at as u64 + 1).await;
            assert_corrupt(&what, &of, error);
            assert!(got.is_empty(), "{what} was read");
            // Other blocks are none the worse.
            if at >= BLOCK {
                assert_eq!(fixture.read(&of, 5..100).await.0, bytes[5..100], "{what}");
            }
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_of_a_footer_is_noticed() {
    let fixture = Fixture::new();
    for size in [0, 10, WHOLE + 1, 2 * BLOCK + 1] {
        let bytes = content(size, 2);
        let of = put(&fixture.store, &bytes).await;
        let good = std::fs::read(fixture.path(&of)).unwrap();
        for at in size..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(fixture.path(&of), &bad).unwrap();
            let what = format!("byte {at} of the file of {size}");
            assert_corrupt(&what, &of, fixture.store.checksums(&of.object).await.err());
            assert_corrupt(&what, &of, fixture.store.stat(&of.object).await.err());
            let (got, error) = fixture.read(&of, 0..of.size).await;
            if size <= WHOLE {
                // Proved by its digest: the footer is not needed.
                assert_eq!((got, error.is_none()), (bytes.clone(), true), "{what}");
            } else {
                assert_corrupt(&what, &of, error);
                assert!(got.is_empty(), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_was_cut_or_grew_is_never_read_past_what_is_right() {
    let fixture = Fixture::new();
    for size in [1, WHOLE, WHOLE + 1, 2 * BLOCK, 2 * BLOCK + 1] {
        let bytes = content(size, 3);
        let of = put(&fixture.store, &bytes).await;
        let good = std::fs::read(fixture.path(&of)).unwrap();
        let lengths = [0, 1, 31, 32, 33, size - 1, size, size + 31, good.len() - 8, good.len() - 1];
        for length in lengths.into_iter().filter(|length| *length < good.len()) {
            std::fs::write(fixture.path(&of), &good[..length]).unwrap();
            let (got, error) = fixture.read(&of, 0..of.size).await;
            assert_corrupt(&format!("{length} of {}", good.len()), &of, error);
            assert!(bytes.starts_with(&got));
        }
        for more in [1, 8, 32, BLOCK] {
            std::fs::write(fixture.path(&of), [&good[..], &vec![0; more]].concat()).unwrap();
            let (got, error) = fixture.read(&of, 0..of.size).await;
            assert!(got == bytes || (error.is_some() && bytes.starts_with(&got)), "{more} bytes more");
            assert!(fixture.store.stat(&of.object).await.is_err(), "{more} bytes more");
        }
    }
}

#[tokio::test]
async fn the_file_of_another_object_is_noticed() {
    let fixture = Fixture::new();
    for size in [10, 2 * BLOCK + 1] {
        let (one, other) = (put(&fixture.store, &content(size, 4)).await, put(&fixture.store, &content(size, 5)).await);
        std::fs::copy(fixture.path(&other), fixture.path(&one)).unwrap();
        let (got, error) = fixture.read(&one, 0..one.size).await;
        assert_corrupt("a copied file", &one, error);
        assert!(got.is_empty());
    }
}

#[tokio::test]
async fn a_wrong_size_in_the_record_is_noticed() {
    let fixture = Fixture::new();
    for size in [10, WHOLE, WHOLE + 1, BLOCK, 2 * BLOCK + 1] {
        let bytes = content(size, 6);
        let of = put(&fixture.store, &bytes).await;
        for wrong in [of.size - 1, of.size + 1, of.size + BLOCK as u64] {
            let (got, error) = fixture.read(&Finished { size: wrong, ..of.clone() }, 0..wrong).await;
            assert_corrupt(&format!("{size} recorded as {wrong}"), &of, error);
            assert!(bytes.starts_with(&got) && got.len() < wrong as usize, "{size} recorded as {wrong}");
        }
    }
}

fn any_range() -> impl Strategy<Value = (usize, Range<u64>)> {
    let size = prop_oneof![0_usize..200, WHOLE - 2..WHOLE + 3, BLOCK - 2..BLOCK + 3, 0_usize..1_200_000];
    let range = size.prop_flat_map(|size| (Just(size), 0..=size as u64, 0..=size as u64));
    range.prop_map(|(size, a, b)| (size, a.min(b)..a.max(b)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_range_is_that_of_a_vector((size, range) in any_range(), seed: u64) {
        let bytes = content(size, seed);
        let model = &bytes[range.start as usize..range.end as usize];
        run(async {
            let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(1 << 30));
            let of = put(&store, &bytes).await;
            let reader = CheckedReader::new(store, 1 << 20);
            let pieces = reader.read(&of.object, &of.digest, of.size, range.clone()).await.unwrap();
            let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= BLOCK));
            assert_eq!(pieces.concat(), model);
            let blocks = reader.blocks(&of.object, &of.digest, of.size, range.clone()).await.unwrap();
            let blocks: Vec<_> = blocks.try_collect().await.unwrap();
            for block in &blocks {
                let end = block.offset as usize + block.bytes.len();
                assert_eq!(block.bytes, &bytes[block.offset as usize..end]);
                assert_eq!(block.checksum, atoll_blobstore::block_checksum(&block.bytes));
                assert!(block.offset.is_multiple_of(BLOCK as u64) && (end == size || end.is_multiple_of(BLOCK)));
            }
            if let (Some(first), Some(last)) = (blocks.first(), blocks.last()) {
                assert!(first.offset <= range.start && last.offset + last.bytes.len() as u64 >= range.end);
            }
            assert!(range.is_empty() || !blocks.is_empty());
        });
    }

    #[test]
    fn damage_never_gives_a_wrong_byte(
        (size, range) in any_range(), seed: u64, flip: Option<(prop::sample::Index, u8)>, cut: Option<prop::sample::Index>
    ) {
        let bytes = content(size, seed);
        run(async {
            let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(1 << 30));
            let of = put(&store, &bytes).await;
            let mut damaged = None;
            if let Some((at, bit)) = flip.filter(|_| size > 0) {
                let at = at.index(size) as u64;
                store.flip_bit(&of.object, at, bit);
                damaged = Some(at);
            }
            if let Some(at) = cut.filter(|_| size > 0) {
                let at = at.index(size) as u64;
                store.truncate(&of.object, at);
                damaged = Some(damaged.map_or(at, |other| at.min(other)));
            }
            let reader = CheckedReader::new(Arc::new(store), 1 << 20);
            let (got, error) = read(&reader, &of, range.clone()).await;
            let right = &bytes[range.start as usize..range.end as usize];
            assert!(right.starts_with(&got), "a wrong byte was read");
            assert!(got == right || error.is_some(), "a body ended early without an error");
            if let Some(at) = damaged.filter(|at| range.contains(at)) {
                assert!(error.is_some() && got.len() as u64 <= at - range.start, "byte {at} was read");
            }
        });
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

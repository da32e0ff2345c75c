//! What goes in through the verifying writer comes out through the checked reader, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use atoll_blobstore::contract::content;
use atoll_blobstore::{
    BlobStore, BlockChecksums, CheckedReader, Finished, FsOptions, FsStore, MemoryStore, StoreError, VerifyingWriter,
    WriteError,
};
use atoll_types::{Algorithm, Digest, ObjectName};
use bytes::Bytes;
use futures::TryStreamExt as _;
use proptest::prelude::*;

const BLOCK: usize = BlockChecksums::BLOCK_BYTES as usize;

fn store_in(folder: &tempfile::TempDir) -> Arc<dyn BlobStore> {
    Arc::new(FsStore::open(folder.path().to_owned(), FsOptions::default()).unwrap())
}

async fn put(
    store: &Arc<dyn BlobStore>,
    bytes: &[u8],
    hashed: Algorithm,
    expected: &Digest,
) -> Result<Finished, WriteError> {
    let mut writer = VerifyingWriter::create(store, ObjectName::random(1), hashed).await?;
    for piece in bytes.chunks(100_003) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
    }
    writer.finish(expected).await
}

async fn get(reader: &CheckedReader, of: &Finished, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = reader.read(&of.object, &of.digest, of.size, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn what_was_written_is_read_by_any_range() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    let reader = CheckedReader::new(store.clone(), CheckedReader::CACHE_BYTES);
    for size in [0, 1, 65_536, 65_537, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
        let bytes = content(size, 1);
        let done = put(&store, &bytes, Algorithm::Sha256, &Digest::sha256(&bytes)).await.unwrap();
        assert_eq!(done.size, size as u64);
        assert_eq!(get(&reader, &done, 0..done.size).await.unwrap(), bytes);
        let (from, to) = (size / 3, size - size / 4);
        assert_eq!(get(&reader, &done, from as u64..to as u64).await.unwrap(), bytes[from..to]);
    }
}

#[tokio::test]
async fn a_digest_of_another_algorithm_is_proved_by_reading_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    for size in [0, 10, 5 * BLOCK + 1] {
        let bytes = content(size, 1);
        let expected = Algorithm::Sha512.digest(&bytes);
        let done = put(&store, &bytes, Algorithm::Sha256, &expected).await.unwrap();
        assert_eq!(done.digest, expected);
        let wrong = Algorithm::Sha512.digest(b"something else");
        let refused = put(&store, &bytes, Algorithm::Sha256, &wrong).await.unwrap_err();
        assert!(matches!(refused, WriteError::DigestMismatch { actual, .. } if actual == expected), "{refused}");
    }
}

#[tokio::test]
async fn a_wrong_digest_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    for size in [10, 5 * BLOCK] {
        let refused = put(&store, &content(size, 1), Algorithm::Sha256, &Digest::sha256(b"other")).await;
        assert!(matches!(refused, Err(WriteError::DigestMismatch { .. })));
    }
    assert!(store.list(None, 10).await.unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(folder.path().join("tmp")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "only the lock of the store is there: {left:?}");
}

#[test]
fn an_interrupted_write_goes_on_from_where_it_was() {
    // One thread for the disk, which is kept busy while a write is polled: none of two blocks or more is done by then.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (bytes, mut interruptions) = (Bytes::from(content(40 * BLOCK + 3, 1)), 0);
    runtime.block_on(async {
        let store = store_in(&folder);
        let mut writer = VerifyingWriter::create(&store, ObjectName::random(1), Algorithm::Sha256).await.unwrap();
        while writer.len() < bytes.len() as u64 {
            // As of a client that leaves in mid-request and comes back to ask how much has arrived.
            let from = writer.len() as usize;
            let rest = bytes.slice(from..bytes.len().min(from + 5 * BLOCK / 2));
            let (_release, busy) = std::sync::mpsc::channel::<()>();
            let _thread = tokio::task::spawn_blocking(move || busy.recv());
            let write = writer.write(rest);
            tokio::pin!(write);
            match futures::poll!(write.as_mut()) {
                Poll::Ready(done) => done.unwrap(),
                Poll::Pending => interruptions += 1,
            }
        }
        assert!(interruptions >= 40 / 2 - 1, "{interruptions} writes were interrupted");
        let done = writer.finish(&Digest::sha256(&bytes)).await.unwrap();
        let reader = CheckedReader::new(store, CheckedReader::CACHE_BYTES);
        assert_eq!(get(&reader, &done, 0..done.size).await.unwrap(), bytes);
    });
}

#[tokio::test]
async fn an_object_that_is_gone_is_not_found_even_if_its_checksums_are_cached() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    let reader = CheckedReader::new(store.clone(), CheckedReader::CACHE_BYTES);
    for size in [10, 3 * BLOCK] {
        let bytes = content(size, 1);
        let done = put(&store, &bytes, Algorithm::Sha256, &Digest::sha256(&bytes)).await.unwrap();
        get(&reader, &done, 0..done.size).await.unwrap();
        store.delete(&done.object).await.unwrap();
        let gone = get(&reader, &done, 0..done.size).await;
        assert!(matches!(gone, Err(StoreError::NotFound(name)) if name == done.object), "{gone:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_split_gives_the_same_object(
        size in prop_oneof![0_usize..200, 65_530_usize..65_545, BLOCK - 2..BLOCK + 3, 0_usize..1_000_000],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        seed: u64,
        by_sha512: bool,
    ) {
        let bytes = content(size, seed);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(size + 1)).chain([0, size]).collect();
        cuts.sort_unstable();
        let expected = if by_sha512 { Algorithm::Sha512.digest(&bytes) } else { Digest::sha256(&bytes) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(1 << 30));
            let mut writer = VerifyingWriter::create(&store, ObjectName::random(1), Algorithm::Sha256).await.unwrap();
            for pair in cuts.windows(2) {
                writer.write(Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])).await.unwrap();
                assert_eq!(writer.len(), pair[1] as u64);
            }
            let done = writer.finish(&expected).await.unwrap();
            assert_eq!((done.size, done.digest), (size as u64, expected));
            assert_eq!(*store.checksums(&done.object).await.unwrap(), BlockChecksums::of(&bytes));
            assert_eq!(store.read(&done.object, 0..done.size).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat(), bytes);
        });
    }
}

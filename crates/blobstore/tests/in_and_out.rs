//! What goes in through the verifying writer comes out through the checked reader, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::ops::Range;
use std::sync::Arc;

use atoll_blobstore::contract::content;
use atoll_blobstore::{
    BlobStore, BlockChecksums, CheckedReader, Finished, FsOptions, FsStore, StoreError, VerifyingWriter, WriteError,
};
use atoll_types::{Algorithm, Digest, ObjectName};
use bytes::Bytes;
use futures::TryStreamExt as _;

const BLOCK: usize = BlockChecksums::BLOCK_BYTES as usize;

fn store_in(folder: &tempfile::TempDir) -> Arc<dyn BlobStore> {
    Arc::new(FsStore::open(folder.path().to_owned(), FsOptions::default()).unwrap())
}

async fn put(
    store: &dyn BlobStore,
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
        let done = put(&*store, &bytes, Algorithm::Sha256, &Digest::sha256(&bytes)).await.unwrap();
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
        let done = put(&*store, &bytes, Algorithm::Sha256, &expected).await.unwrap();
        assert_eq!(done.digest, expected);
        let wrong = Algorithm::Sha512.digest(b"something else");
        let refused = put(&*store, &bytes, Algorithm::Sha256, &wrong).await.unwrap_err();
        assert!(matches!(refused, WriteError::DigestMismatch { actual, .. } if actual == expected), "{refused}");
    }
}

#[tokio::test]
async fn a_wrong_digest_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder);
    for size in [10, 5 * BLOCK] {
        let refused = put(&*store, &content(size, 1), Algorithm::Sha256, &Digest::sha256(b"other")).await;
        assert!(matches!(refused, Err(WriteError::DigestMismatch { .. })));
    }
    assert!(store.list(None, 10).await.unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(folder.path().join("tmp")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "only the lock of the store is there: {left:?}");
}

//! A bucket as a store, against real S3 servers.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_blobstore::{BlobStore, S3Credentials, S3Options, S3Store, contract};
use atoll_testkit::s3_server::{ACCESS_KEY_ID, BUCKET, S3Kind, S3Server, SECRET_ACCESS_KEY};

fn options(server: &S3Server, prefix: &str) -> S3Options {
    S3Options {
        prefix: prefix.to_owned(),
        endpoint: Some(server.endpoint()),
        path_style: true,
        credentials: Some(S3Credentials {
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: SECRET_ACCESS_KEY.to_owned(),
        }),
        ..S3Options::new(BUCKET)
    }
}

/// Runs the contract against a server; each case has a prefix of its own.
async fn keeps_the_contract(kind: S3Kind, part_bytes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(kind, folder.path()).unwrap();
    let number = AtomicU64::new(0);
    let make = async || -> Arc<dyn BlobStore> {
        let prefix = format!("case-{}", number.fetch_add(1, Ordering::Relaxed));
        let options = S3Options { part_bytes, ..options(&server, &prefix) };
        let store: Arc<dyn BlobStore> = Arc::new(S3Store::open(options).await.unwrap());
        store
    };
    contract::run_with(&make).await.unwrap();
    let part = part_bytes;
    contract::run_sized(&make, &[part - 1, part, part + 1, 3 * part + 7]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_versitygw_keeps_the_contract() {
    keeps_the_contract(S3Kind::Versitygw, 8 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_s3s_fs_keeps_the_contract() {
    keeps_the_contract(S3Kind::S3sFs, 8 << 20).await;
}

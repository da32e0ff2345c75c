//! Every store passes the one contract.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::sync::Arc;

use atoll_blobstore::contract;
use atoll_blobstore::{BlobStore, Fault, FaultPlan, FaultyStore, FsOptions, FsStore, MemoryStore, Operation};

/// Each store has a folder of its own below one that goes with the test.
fn fs_stores(folder: &tempfile::TempDir, options: FsOptions) -> impl Fn() -> Arc<dyn BlobStore> {
    let root = folder.path().to_owned();
    let next = std::sync::atomic::AtomicU64::new(0);
    move || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = root.join("made/by/the/store").join(number.to_string());
        Arc::new(FsStore::open(root, options.clone()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract::run(fs_stores(&folder, FsOptions::default())).await.unwrap();
}

#[tokio::test]
async fn a_folder_with_one_operation_at_a_time_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let options = FsOptions { io_concurrency: 1, ..FsOptions::default() };
    contract::run(fs_stores(&folder, options)).await.unwrap();
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::run(|| Arc::new(MemoryStore::new(1 << 30))).await.unwrap();
}

#[tokio::test]
async fn a_faulty_store_without_faults_keeps_the_contract() {
    let make = || Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(1 << 30)), FaultPlan::new(1)));
    contract::run(|| make()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_store_that_lies_or_fails_keeps_the_contract() {
    let faults = [
        Fault::Unavailable,
        Fault::Full,
        Fault::LostAnswer,
        Fault::Cut,
        Fault::Reset,
        Fault::FlipBit,
        Fault::StaleList,
    ];
    let pairs = Operation::ALL.into_iter().flat_map(|operation| faults.map(|fault| (operation, fault)));
    for (operation, fault) in pairs.filter(|(operation, fault)| fault.strikes(*operation)) {
        let plan = FaultPlan::new(1).with(operation, fault, 1.0).unwrap();
        let verdict = contract::run(|| Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(1 << 30)), plan.clone())));
        assert!(verdict.await.is_err(), "{fault:?} in every {operation:?} was not noticed");
    }
}

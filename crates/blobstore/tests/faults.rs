//! Under every fault that a store may have, what is acknowledged is right, and what is read is right.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::contract::content;
use atoll_blobstore::{
    BlobStore, BlockChecksums, CheckedReader, Fault, FaultPlan, FaultyStore, Finished, MemoryStore, Operation,
    StoreError, VerifyingWriter, WriteError,
};
use atoll_types::{Algorithm, ClusterId, ObjectName};
use bytes::Bytes;
use futures::TryStreamExt as _;

const BLOCK: usize = BlockChecksums::BLOCK_BYTES as usize;
const HOUR: Duration = Duration::from_secs(3600);

const FAULTS: [Fault; 10] = [
    Fault::Unavailable,
    Fault::Broken,
    Fault::Full,
    Fault::Hang(Duration::from_millis(1)),
    Fault::Slow(Duration::from_millis(1)),
    Fault::LostAnswer,
    Fault::Cut,
    Fault::Reset,
    Fault::FlipBit,
    Fault::StaleList,
];

/// Every fault in every operation in which it has a meaning.
fn every_fault(seed: u64, chance: f64) -> FaultPlan {
    let pairs = Operation::ALL.into_iter().flat_map(|operation| FAULTS.map(|fault| (operation, fault)));
    pairs
        .filter(|(operation, fault)| fault.strikes(*operation))
        .fold(FaultPlan::new(seed), |plan, (operation, fault)| plan.with(operation, fault, chance).unwrap())
}

/// The same store.
fn shared(store: &FaultyStore) -> Arc<dyn BlobStore> {
    Arc::new(store.clone())
}

async fn put(store: &Arc<dyn BlobStore>, name: ObjectName, bytes: &[u8]) -> Result<Finished, WriteError> {
    let mut writer = VerifyingWriter::create(store, name, Algorithm::Sha256).await?;
    for piece in bytes.chunks(BLOCK / 2 + 17) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
    }
    // Every third is proved by reading back, every fifth fails its proof.
    let algorithm = if bytes.len().is_multiple_of(3) { Algorithm::Sha512 } else { Algorithm::Sha256 };
    let expected = if bytes.len().is_multiple_of(5) { algorithm.digest(b"another") } else { algorithm.digest(bytes) };
    writer.finish(&expected).await
}

#[tokio::test]
async fn whatever_fails_nothing_wrong_is_read_and_nothing_acknowledged_is_lost() {
    let seed = rand::random();
    println!("seed {seed}");
    let inner = MemoryStore::new(1 << 30);
    let store = FaultyStore::new(Arc::new(inner.clone()), every_fault(seed, 0.04));
    let reader = CheckedReader::new(Arc::new(store.clone()), 1 << 10);
    let (cluster, mut kept) = (ClusterId::random(), Vec::new());
    let mut round = 0;
    // Until all have fired: the bound is far beyond the number that is to be expected.
    while !store.unfired().is_empty() && round < 5_000 {
        round += 1;
        let (name, bytes) = (ObjectName::random(1), content(round * 7_919 % (2 * BLOCK + 99), round as u64));
        match put(&shared(&store), name, &bytes).await {
            Ok(done) => kept.push((done, bytes)),
            Err(WriteError::DigestMismatch { actual, expected }) => assert_ne!(actual, expected),
            Err(WriteError::Store(_)) => {}
        }
        let _ = (store.probe().await, store.identify(cluster).await, store.stat(&name).await);
        if let Some((of, bytes)) = kept.get(round * 31 % kept.len().max(1)) {
            check_read(&reader, of, bytes).await;
        }
        if kept.len() > 20 {
            let (of, _) = kept.remove(round % 20);
            let _ = store.delete(&of.object).await;
        }
        let _ = store.list(None, 1_000).await;
    }
    assert_eq!(store.unfired(), vec![], "seed {seed}: these never struck in {round} rounds");
    check_settled(&store, &inner, kept, seed).await;
}

async fn check_read(reader: &CheckedReader, of: &Finished, bytes: &[u8]) {
    let range = of.size / 3..of.size;
    let Ok(body) = reader.read(&of.object, &of.digest, of.size, range.clone()).await else { return };
    if let Ok(pieces) = body.try_collect::<Vec<Bytes>>().await {
        assert_eq!(pieces.concat(), bytes[range.start as usize..], "a wrong body was completed");
    }
}

#[tokio::test]
async fn what_was_wrong_once_on_its_way_is_read_again() {
    let faults =
        [(Operation::Checksums, Fault::FlipBit), (Operation::Read, Fault::FlipBit), (Operation::Read, Fault::Cut)];
    for (operation, fault) in faults {
        for size in [101, 3 * BLOCK + 7] {
            let what = format!("{fault:?} in {operation:?} of {size} bytes");
            let plan = FaultPlan::new(1).with_at_most(operation, fault, 1.0, 1).unwrap();
            let (inner, bytes): (Arc<dyn BlobStore>, _) = (Arc::new(MemoryStore::new(1 << 30)), content(size, 1));
            let of = put(&inner, ObjectName::random(1), &bytes).await.unwrap();
            let store = FaultyStore::new(inner, plan);
            let reader = CheckedReader::new(Arc::new(store.clone()), 1 << 20);
            for again in 0..2 {
                let body = reader.read(&of.object, &of.digest, of.size, 0..of.size).await;
                let body = body.unwrap_or_else(|error| panic!("{what}, read {again}: {error}"));
                let got = body.try_collect::<Vec<Bytes>>().await;
                assert_eq!(
                    got.unwrap_or_else(|error| panic!("{what}, read {again}: {error}")).concat(),
                    bytes,
                    "{what}"
                );
            }
            let small = operation == Operation::Checksums && size == 101;
            assert!(small || store.unfired().is_empty(), "{what} never struck");
        }
    }
}

/// Without faults, all that was acknowledged is there, right or known to be corrupt (a bit flipped on its way in).
async fn check_settled(store: &FaultyStore, inner: &MemoryStore, kept: Vec<(Finished, Vec<u8>)>, seed: u64) {
    store.set_active(false);
    let fired = store.fired();
    let reader = CheckedReader::new(Arc::new(store.clone()), 1 << 20);
    for (of, bytes) in kept {
        match reader.read(&of.object, &of.digest, of.size, 0..of.size).await {
            Ok(body) => match body.try_collect::<Vec<Bytes>>().await {
                Ok(pieces) => assert_eq!(pieces.concat(), bytes, "seed {seed}"),
                Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "seed {seed}: {error}"),
            },
            Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "seed {seed}: {error}"),
        }
    }
    assert_eq!(store.list(None, 10_000).await.unwrap(), inner.list(None, 10_000).await.unwrap(), "seed {seed}");
    assert_eq!(store.fired(), fired, "seed {seed}: a fault struck while none should");
}

#[tokio::test]
async fn a_plan_strikes_the_same_calls_again() {
    let strikes = async |seed| {
        let plan = FaultPlan::new(seed).with(Operation::Probe, Fault::Unavailable, 0.5).unwrap();
        let store = FaultyStore::new(Arc::new(MemoryStore::new(0)), plan);
        let mut seen = Vec::new();
        for _ in 0..64 {
            seen.push(store.probe().await.is_err());
        }
        seen
    };
    assert_eq!(strikes(7).await, strikes(7).await);
    assert_ne!(strikes(7).await, strikes(8).await);
}

#[tokio::test]
async fn a_rule_ends_after_its_times_and_one_without_meaning_is_refused() {
    let plan = FaultPlan::new(1).with_at_most(Operation::Probe, Fault::Full, 1.0, 2).unwrap();
    let store = FaultyStore::new(Arc::new(MemoryStore::new(0)), plan);
    assert!(matches!(store.probe().await, Err(StoreError::Full(_))));
    assert!(matches!(store.probe().await, Err(StoreError::Full(_))));
    assert!(store.probe().await.is_ok());
    assert_eq!(store.fired()[0].times, 2);
    assert!(FaultPlan::new(1).with(Operation::Probe, Fault::Cut, 1.0).is_err());
    assert!(FaultPlan::new(1).with(Operation::Probe, Fault::Full, 0.0).is_err());
    assert!(FaultPlan::new(1).with(Operation::Probe, Fault::Full, f64::NAN).is_err());
}

#[tokio::test]
async fn a_lost_answer_leaves_an_object_that_is_whole() {
    let plan = FaultPlan::new(1).with(Operation::Complete, Fault::LostAnswer, 1.0).unwrap();
    let store = FaultyStore::new(Arc::new(MemoryStore::new(1 << 20)), plan);
    let name = ObjectName::random(1);
    let answer = put(&shared(&store), name, b"seven bytes").await;
    assert!(matches!(answer, Err(WriteError::Store(StoreError::Unavailable(_)))), "{answer:?}");
    assert_eq!(store.stat(&name).await.unwrap().size, 11);
}

#[tokio::test]
async fn a_write_that_was_dropped_half_way_can_never_be_finished_wrongly() {
    let plan = FaultPlan::new(1).with_at_most(Operation::Write, Fault::Hang(HOUR), 1.0, 1).unwrap();
    let store = FaultyStore::new(Arc::new(MemoryStore::new(1 << 20)), plan);
    let mut writer = VerifyingWriter::create(&shared(&store), ObjectName::random(1), Algorithm::Sha256).await.unwrap();
    {
        let write = writer.write(Bytes::from_static(b"lost"));
        tokio::pin!(write);
        assert!(futures::poll!(write.as_mut()).is_pending());
    }
    assert!(writer.write(Bytes::from_static(b"more")).await.is_err());
    let finished = writer.finish(&Algorithm::Sha256.digest(b"lost")).await;
    assert!(matches!(finished, Err(WriteError::Store(StoreError::Other(_)))), "{finished:?}");
    assert!(store.list(None, 1).await.unwrap().is_empty());
}

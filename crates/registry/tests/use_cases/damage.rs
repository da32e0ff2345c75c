//! Copies that are bad, missing, or out of reach: no client gets a wrong byte, and none an error while any copy is in
//! reach.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{
    OCI_MANIFEST, REPOSITORY, Region, World, access, collect, content, eventually, image, options, write,
};
use atoll_blobstore::{BlobStore as _, ByteStream, StoreError};
use atoll_metadata::{Command, Rejection, read};
use atoll_registry::{ReadThrough, ReadThroughError, RegistryError};
use atoll_types::{Digest, StoreId};
use bytes::Bytes;
use futures::StreamExt as _;

const BLOCK: usize = 256 << 10;

/// A blob of some blocks, with a copy in both regions.
async fn everywhere(world: &World) -> (Bytes, Digest) {
    let blob = content(5 * BLOCK + 77, 7);
    world.us.push_blob(REPOSITORY, &blob).await;
    world.copy_to(&world.eu, &blob).await;
    let digest = Digest::sha256(&blob);
    (blob, digest)
}

#[tokio::test]
async fn every_range_is_what_it_should_be() {
    let world = World::new();
    let blob = content(3 * BLOCK + 5, 3);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    for region in [&world.us, &world.eu] {
        let handle = region.registry.open_blob(&access(REPOSITORY), &digest, &options()).await.unwrap();
        let end = blob.len();
        for range in [0..0, 0..1, 0..end, end - 1..end, end..end, BLOCK - 1..BLOCK + 1, BLOCK..2 * BLOCK, 5..end - 5] {
            let asked = range.start as u64..range.end as u64;
            let got = collect(region.registry.read_blob(&handle, asked).await.unwrap()).await.unwrap();
            assert!(got == blob[range.clone()], "{range:?}");
        }
        assert!(region.registry.read_blob(&handle, 0..end as u64 + 1).await.is_err());
    }
}

#[tokio::test]
async fn a_copy_that_is_corrupt_in_the_middle_is_continued_from_another_region() {
    for (byte, reads) in [(0, 1), (2 * BLOCK + 9, 1), (5 * BLOCK + 70, 1)] {
        let world = World::new();
        let (blob, digest) = everywhere(&world).await;
        let bad = world.copy(&world.us, &digest).unwrap();
        assert!(world.us.store.flip_bit(&bad, byte as u64, 3));
        assert!(world.us.blob(&digest).await.unwrap() == blob, "the client does not notice");
        assert_eq!(world.us.others.reads(), reads);
        eventually("the bad copy is dropped", async || world.copy(&world.us, &digest).is_none()).await;
        let good = world.copy_to(&world.us, &blob).await;
        assert!(world.us.blob(&digest).await.unwrap() == blob);
        assert_eq!((world.us.others.reads(), world.copy(&world.us, &digest)), (reads, Some(good)), "healed");
    }
}

/// Another region that sends something else up to the last block, and then fails; asked for the rest, it is right.
struct Impostor(Bytes);

impl Impostor {
    fn right(&self, range: &Range<u64>) -> Bytes {
        self.0.slice(range.start as usize..range.end as usize)
    }
}

#[async_trait::async_trait]
impl ReadThrough for Impostor {
    async fn read(&self, _: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        let right = self.right(&range);
        if range.start > 0 {
            return Ok(futures::stream::iter([Ok(right)]).boxed());
        }
        let wrong = Bytes::from(vec![b'x'; right.len() - BLOCK]);
        let broken = StoreError::Unavailable("it has another digest".into());
        Ok(futures::stream::iter([Ok(wrong), Err(broken)]).boxed())
    }
}

#[tokio::test]
async fn the_right_end_never_completes_a_wrong_beginning() {
    let world = World::new();
    let blob = content(5 * BLOCK, 9);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    let registry = world.eu.registry_over(Arc::new(Impostor(blob.clone())));
    let handle = registry.open_blob(&access(REPOSITORY), &digest, &options()).await.unwrap();
    let got = collect(registry.read_blob(&handle, 0..blob.len() as u64).await.unwrap()).await;
    assert!(got.is_err(), "a wrong blob was completed: {} bytes", got.map_or(0, |bytes| bytes.len()));
}

/// Another region that is an [`Impostor`] when it is asked first, and right from then on.
struct ImpostorOnce(Impostor, AtomicBool);

#[async_trait::async_trait]
impl ReadThrough for ImpostorOnce {
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        if !self.1.swap(true, Ordering::SeqCst) {
            return self.0.read(digest, range).await;
        }
        Ok(futures::stream::iter([Ok(self.0.right(&range))]).boxed())
    }
}

#[tokio::test]
async fn what_a_failed_region_sent_after_a_damaged_copy_is_not_completed_by_a_third_one() {
    let world = World::new();
    let blob = content(5 * BLOCK, 9);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    assert!(world.us.store.flip_bit(&world.copy(&world.us, &digest).unwrap(), BLOCK as u64 + 9, 3));
    let others = ImpostorOnce(Impostor(blob.clone()), AtomicBool::new(false));
    let registry = world.us.registry_over(Arc::new(others));
    let handle = registry.open_blob(&access(REPOSITORY), &digest, &options()).await.unwrap();
    let got = collect(registry.read_blob(&handle, 0..blob.len() as u64).await.unwrap()).await;
    assert!(got.is_err(), "a wrong blob was completed: {} bytes", got.map_or(0, |bytes| bytes.len()));
}

#[tokio::test]
async fn a_copy_that_is_missing_or_short_is_read_elsewhere_and_dropped() {
    for short in [false, true] {
        let world = World::new();
        let (blob, digest) = everywhere(&world).await;
        let object = world.copy(&world.us, &digest).unwrap();
        if short {
            assert!(world.us.store.truncate(&object, BLOCK as u64 + 1));
        } else {
            world.us.store.delete(&object).await.unwrap();
        }
        assert!(world.us.blob(&digest).await.unwrap() == blob);
        eventually("it is dropped", async || world.copy(&world.us, &digest).is_none()).await;
    }
}

#[tokio::test]
async fn the_last_copy_is_not_dropped_and_no_wrong_byte_leaves_it() {
    let world = World::new();
    let blob = content(3 * BLOCK, 5);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    let object = world.copy(&world.us, &digest).unwrap();
    assert!(world.us.store.flip_bit(&object, BLOCK as u64 + 1, 0));
    let handle = world.us.registry.open_blob(&access(REPOSITORY), &digest, &options()).await.unwrap();
    let stream = world.us.registry.read_blob(&handle, 0..blob.len() as u64).await.unwrap();
    assert!(matches!(collect(stream).await, Err(StoreError::Unavailable(_))), "it ends before the bad block");
    let good = world.us.registry.read_blob(&handle, 2 * BLOCK as u64..3 * BLOCK as u64).await.unwrap();
    assert!(collect(good).await.unwrap() == blob[2 * BLOCK..], "what is good is served");
    assert_eq!(world.copy(&world.us, &digest), Some(object));
}

/// Whether a region tells clients that a blob is there, so that they need not upload it.
async fn is_there(region: &Region, digest: &Digest) -> bool {
    match region.registry.head_blob(&access(REPOSITORY), digest, &options()).await {
        Ok(_) => true,
        Err(RegistryError::Rejected(Rejection::BlobUnknown(_))) => false,
        Err(error) => panic!("{error}"),
    }
}

/// An image whose layer's last copy, in us, was found corrupt: the manifest, the layer and its digest.
async fn damaged(world: &World) -> (Bytes, Bytes, Digest) {
    let layer = content(3 * BLOCK, 11);
    let config = Bytes::from_static(b"{}");
    let manifest = image(&config, &layer, serde_json::Value::Null);
    for blob in [&config, &layer] {
        world.us.push_blob(REPOSITORY, blob).await;
    }
    world.us.put("v1", &manifest).await.unwrap();
    let digest = Digest::sha256(&layer);
    let object = world.copy(&world.us, &digest).unwrap();
    assert!(world.us.store.flip_bit(&object, BLOCK as u64 + 1, 0));
    assert!(world.us.blob(&digest).await.is_err(), "no wrong byte is served");
    eventually("the copy is suspect", async || !is_there(&world.us, &digest).await).await;
    (manifest, layer, digest)
}

#[tokio::test]
async fn a_blob_whose_last_copy_is_corrupt_is_uploaded_again_by_whoever_pushes_it() {
    for healer in [0, 1] {
        let world = World::new();
        let (manifest, layer, digest) = damaged(&world).await;
        let object = world.copy(&world.us, &digest);
        assert!(object.is_some() && !is_there(&world.eu, &digest).await, "kept, but in no region there");
        let from = access(REPOSITORY);
        let mounted = world.us.registry.mount(&access("team/b"), &digest, Some(&from), &write()).await.unwrap();
        assert_eq!(mounted, None, "the client is asked to upload it");
        let refused = world.us.put("v2", &manifest).await;
        assert!(matches!(refused, Err(RegistryError::Rejected(Rejection::BlobsMissing(_)))), "{refused:?}");

        let region = [&world.us, &world.eu][healer];
        region.push_blob(REPOSITORY, &layer).await;
        region.put("v2", &manifest).await.unwrap();
        for reader in [&world.us, &world.eu] {
            assert!(is_there(reader, &digest).await && reader.blob(&digest).await.unwrap() == layer);
        }
        let wanted = world.group.read(|kv| read::wanted(kv, &world.us.name, None, 9)).unwrap();
        assert_eq!(wanted.iter().any(|wanted| wanted.digest == digest), healer == 1, "us fetches it from eu");
        assert_ne!(world.copy(&world.us, &digest), object);
    }
}

#[tokio::test]
async fn a_suspect_copy_that_can_be_read_again_is_served() {
    let world = World::new();
    let (_, layer, digest) = damaged(&world).await;
    let alone = world.eu.registry_over(Arc::new(Nobody));
    let handle = alone.open_blob(&access(REPOSITORY), &digest, &options()).await.unwrap();
    let refused = alone.read_blob(&handle, 0..layer.len() as u64).await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("push it again"), "{refused}");
    let object = world.copy(&world.us, &digest).unwrap();
    assert!(world.us.store.flip_bit(&object, BLOCK as u64 + 1, 0), "what was wrong has passed");
    for region in [&world.us, &world.eu] {
        assert!(region.blob(&digest).await.unwrap() == layer);
    }
}

/// No other region answers.
struct Nobody;

#[async_trait::async_trait]
impl ReadThrough for Nobody {
    async fn read(&self, _: &Digest, _: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        Err(ReadThroughError::Unreachable(Vec::new()))
    }
}

#[tokio::test]
async fn a_stored_manifest_whose_last_copy_is_corrupt_is_pushed_again() {
    let world = World::new();
    let manifest = world.us.push_parts("large", serde_json::json!({ "pad": "x".repeat(300 << 10) })).await;
    world.us.put("large", &manifest).await.unwrap();
    let object = world.copy(&world.us, &Digest::sha256(&manifest)).unwrap();
    assert!(world.us.store.flip_bit(&object, 9, 0));
    assert!(world.us.get("large").await.is_err());
    let reference = "large".parse().unwrap();
    let head = async || world.us.registry.head_manifest(&access(REPOSITORY), &reference, &options()).await;
    eventually("it is not there for who asks before a push", async || {
        matches!(head().await, Err(RegistryError::Rejected(Rejection::ManifestUnknown(_))))
    })
    .await;
    world.us.put("large", &manifest).await.unwrap();
    assert_eq!(head().await.unwrap().size, manifest.len() as u64);
    assert_eq!(world.us.get("large").await.unwrap(), manifest);
}

#[tokio::test]
async fn a_referrer_whose_last_copy_is_corrupt_is_listed_with_the_others() {
    let world = World::new();
    let subject = Digest::sha256(b"subject");
    let mut referrers = Vec::new();
    for (tag, pad) in [("large", 300 << 10), ("small", 3)] {
        let more = serde_json::json!({
            "annotations": { "pad": "x".repeat(pad) },
            "subject": { "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 7 },
        });
        let manifest = world.us.push_parts(tag, more).await;
        referrers.push((world.us.put(tag, &manifest).await.unwrap().digest, usize::from(tag == "small")));
    }
    let large = referrers[0].0;
    referrers.sort();
    assert!(world.us.store.flip_bit(&world.copy(&world.us, &large).unwrap(), 9, 0));
    assert!(world.us.get("large").await.is_err());
    eventually("the copy is suspect", async || {
        world.group.read(|kv| read::blob(kv, &large)).unwrap().is_some_and(|blob| blob.suspect)
    })
    .await;
    for region in [&world.us, &world.eu] {
        let page = region.registry.referrers(&access(REPOSITORY), &subject, None, None, &options()).await.unwrap();
        let listed: Vec<_> = page.items.iter().map(|r| (r.digest, r.annotations.len())).collect();
        assert_eq!(listed, referrers, "{}", region.name);
    }
}

#[tokio::test]
async fn a_blob_that_is_out_of_reach_is_said_to_be_elsewhere() {
    let world = World::new();
    let blob = content(100, 1);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    world.eu.others.set_unreachable(true);
    for cut_off in [false, true] {
        world.eu.node.cut_off(cut_off);
        let refused = world.eu.blob(&digest).await;
        let Err(RegistryError::Elsewhere { regions, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(regions, std::slice::from_ref(&world.us.name));
    }
    world.eu.others.set_unreachable(false);
    assert_eq!(world.eu.blob(&digest).await.unwrap(), blob, "read-only, but in reach");
}

#[tokio::test]
async fn a_blob_that_is_lost_is_not_there_until_it_is_uploaded_again() {
    let world = World::new();
    let blob = content(100, 3);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    let replaces = Some(world.us.store_id);
    let command = |store| Command::SetStore { region: world.us.name.clone(), store, replaces };
    world.group.must(command(StoreId::random())).unwrap();
    let head = world.eu.registry.head_blob(&access(REPOSITORY), &digest, &options()).await;
    assert!(matches!(head, Err(RegistryError::Rejected(Rejection::BlobUnknown(_)))), "{head:?}");
    assert!(matches!(world.eu.blob(&digest).await, Err(RegistryError::Rejected(Rejection::BlobUnknown(_)))));
    world.eu.push_blob(REPOSITORY, &blob).await;
    assert_eq!(world.eu.blob(&digest).await.unwrap(), blob);
}

#[tokio::test]
async fn a_copy_that_a_barrier_shows_is_used() {
    let world = World::new();
    let blob = content(100, 2);
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    world.eu.node.lag();
    world.eu.others.set_unreachable(true);
    world.copy_to(&world.eu, &blob).await;
    assert_eq!(world.eu.blob(&digest).await.unwrap(), blob);
    assert_eq!(world.eu.node.barriers(), 1);
}

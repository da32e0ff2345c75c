//! I5: nothing is removed that is referenced. Every manifest that is there has its blobs linked, and its children beside
//! it. Every copy that is recorded is in its store, unless a fault took it, and no object whose bytes were removed on
//! request is named by one; nor was one ever (I1) that was never durable. A damaged copy is found by its next reader; a
//! body of a manifest that is not there has none.

use std::sync::Arc;

use atoll_blobstore::BlobStore as _;
use atoll_metadata::{KvError, KvRead, read};
use atoll_types::{Digest, RepositoryName};

use super::wanted::named;
use crate::content::Image;
use crate::world::World;

pub(crate) async fn check(world: &Arc<World>) {
    check_manifests(world);
    check_durable(world);
    check_copies(world).await;
}

/// What is committed must be so at any time: that of every manifest all is there to which it refers.
pub(crate) fn check_manifests(world: &World) {
    for repository in &world.content.repositories {
        for manifest in world.content.manifests() {
            match world.log.truth(|truth| missing(&truth.kv, repository, manifest)) {
                Ok(missing) if missing.is_empty() => {}
                other => {
                    let what = format!("{repository} has {}, and of what it refers to not {other:?}", manifest.digest);
                    world.judge.violated("I5", what);
                }
            }
        }
    }
}

/// What was a copy once is one still, or garbage.
fn check_durable(world: &World) {
    for region in world.regions() {
        let Some(disk) = world.disk(&region) else { continue };
        for object in world.log.truth(|truth| named(truth, &region)) {
            if disk.is_undurable(&object) {
                world.judge.violated("I1", format!("a copy in {region} was recorded and never durable: {object}"));
            }
        }
    }
}

/// What a repository has not of that to which a manifest refers that it has.
fn missing(kv: &dyn KvRead, repository: &RepositoryName, manifest: &Image) -> Result<Vec<Digest>, KvError> {
    let mut missing = Vec::new();
    if read::manifest(kv, repository, &manifest.digest)?.is_none() {
        return Ok(missing);
    }
    for blob in &manifest.blobs {
        if read::link(kv, repository, blob)?.is_none() || read::blob(kv, blob)?.is_none() {
            missing.push(*blob);
        }
    }
    for child in &manifest.children {
        if read::manifest(kv, repository, child)?.is_none() {
            missing.push(*child);
        }
    }
    Ok(missing)
}

async fn check_copies(world: &World) {
    for region in world.regions() {
        let Some(disk) = world.disk(&region) else { continue };
        for (digest, object) in world.log.truth(|truth| truth.copies(&region)) {
            if disk.was_deleted(&object) {
                world.judge.violated("I5", format!("the copy of {digest} in {region} was removed: {object}"));
            } else if disk.objects.stat(&object).await.is_err() {
                world.judge.violated("I5", format!("the copy of {digest} in {region} is not there: {object}"));
            } else if disk.is_damaged(&object) && world.content.blobs.contains_key(&digest) {
                world
                    .judge
                    .violated("I5", format!("the damaged copy of {digest} in {region} was read and is still recorded"));
            }
        }
    }
}

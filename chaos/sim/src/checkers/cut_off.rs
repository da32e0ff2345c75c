//! I6: a node that hears nobody serves what its region holds, and refuses writes at once; none is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use atoll_auth::{Authorizer, Identity, OpenAuthorizer, Pull, Push};
use atoll_blobstore::BlobStore as _;
use atoll_metadata::{Expected, read};
use atoll_registry::{Consistency, MetadataGroupExt as _, PutTarget, ReadOptions, RegistryError, WriteOptions};
use atoll_types::{Digest, Reference};
use tokio::time::Instant;

use crate::client::read as read_blob;
use crate::judge::Stopwatch;
use crate::node::Node;
use crate::world::World;

/// At once.
const REFUSAL_MAX: Duration = Duration::from_millis(20);

/// Looks at a node that has heard nobody for longer than the window of the quorum.
pub(crate) async fn check(world: &Arc<World>, index: usize) {
    // Another fault may have let it hear somebody, or have taken it away.
    let Some(node) = world.node(index).filter(|_| !world.log.in_majority(index)) else { return };
    let watch = Stopwatch::start();
    let checks = async {
        write(world, &node).await;
        read(world, &node).await;
    };
    node.life.run_until_cancelled(checks).await;
    world.judge.fired("cut-off node asked");
    world.judge.looked("I6", watch);
}

async fn write(world: &World, node: &Node) {
    let (Some(repository), Some(image), Some(tag)) =
        (world.content.repositories.first(), world.content.images.first(), world.content.tags.first())
    else {
        return;
    };
    let Ok(access) = (&OpenAuthorizer as &dyn Authorizer).access::<Push>(&Identity::default(), repository) else {
        return;
    };
    let target =
        PutTarget { reference: Reference::Tag(tag.clone()), extra_tags: Vec::new(), expected: Expected::Absent };
    let start = Instant::now();
    let options =
        WriteOptions { request: None, client_address: String::new(), deadline: start + Duration::from_secs(5) };
    let put = node.registry.put_manifest(&access, target, Some(image.media_type), image.body.clone(), &options).await;
    if !matches!(put, Err(RegistryError::ReadOnly { .. })) || start.elapsed() > REFUSAL_MAX {
        let what = format!("a write at node {}, cut off: {put:?} after {:?}", node.index, start.elapsed());
        world.judge.violated("I6", what);
    }
}

/// Every blob that the node knows to have a copy here, as far as no other fault is at work on it.
async fn read(world: &World, node: &Node) {
    for repository in &world.content.repositories {
        let Ok(access) = (&OpenAuthorizer as &dyn Authorizer).access::<Pull>(&Identity::default(), repository) else {
            return;
        };
        for digest in world.content.blobs.keys() {
            if node.has_store_faults() || !is_here(world, node, repository, digest).await {
                continue;
            }
            let faults = node.store_faults();
            let deadline = Instant::now() + Duration::from_secs(5);
            let options = ReadOptions { consistency: Consistency::Default, min_revision: None, deadline };
            let got = async {
                let blob = node.registry.open_blob(&access, digest, &options).await?;
                read_blob(node, &blob, 0..blob.size).await
            };
            let got = got.await;
            // A fault of the store that began meanwhile is no fault of the node.
            let undisturbed = node.store_faults() == faults && !node.has_store_faults();
            if got.is_err() && is_here(world, node, repository, digest).await && undisturbed {
                let what = format!("node {}, cut off, does not serve its own copy of {digest}: {got:?}", node.index);
                world.judge.violated("I6", what);
            }
        }
    }
}

async fn is_here(world: &World, node: &Node, repository: &atoll_types::RepositoryName, digest: &Digest) -> bool {
    let here = node.metadata.read(|kv| {
        if read::link(kv, repository, digest)?.is_none() {
            return Ok(None);
        }
        let copies = read::blob(kv, digest)?.map(|blob| blob.copies).unwrap_or_default();
        Ok(copies.into_iter().find(|(region, _)| *region == node.region).map(|(_, object)| object))
    });
    let (Ok(Some(object)), Some(disk)) = (here, world.disk(&node.region)) else { return false };
    !disk.is_damaged(&object) && disk.objects.stat(&object).await.is_ok()
}

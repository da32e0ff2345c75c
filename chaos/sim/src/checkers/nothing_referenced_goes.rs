//! I5: nothing is removed that is referenced. Every copy that is recorded is in its store, unless a fault took it, and
//! no object whose bytes were removed on request is named by one. A damaged copy is found by its next reader; a body of a
//! manifest that is not there has none.

use std::sync::Arc;

use atoll_blobstore::BlobStore as _;

use crate::world::World;

pub(crate) async fn check(world: &Arc<World>) {
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

//! I3: no object that a crash tore is read as what it should have been.

use std::sync::Arc;

use atoll_blobstore::{BlobStore as _, CheckedReader};
use atoll_types::{Digest, ObjectName};
use futures::TryStreamExt as _;

use crate::disk::Disk;
use crate::world::World;

/// Of block checksums, more than there are.
const CACHE_BYTES: u64 = 1 << 20;

pub(crate) async fn check(world: &Arc<World>) {
    for region in world.regions() {
        let Some(disk) = world.disk(&region) else { continue };
        for (object, (digest, size)) in disk.torn() {
            if disk.objects.stat(&object).await.is_ok() && reads(disk, &object, &digest, size).await {
                let what = format!("{object} in {region}, which a crash tore, is read as {digest}");
                world.judge.violated("I3", what);
            }
        }
    }
}

async fn reads(disk: &Disk, object: &ObjectName, digest: &Digest, size: u64) -> bool {
    let reader = CheckedReader::new(Arc::new(disk.objects.clone()), CACHE_BYTES);
    match reader.read(object, digest, size, 0..size).await {
        Ok(pieces) => pieces.try_collect::<Vec<_>>().await.is_ok(),
        Err(_) => false,
    }
}

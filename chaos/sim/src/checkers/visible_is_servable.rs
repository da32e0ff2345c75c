//! I4: of a manifest that is visible in a region, every blob is servable there.

use std::sync::Arc;

use atoll_auth::{Authorizer, Identity, OpenAuthorizer, Pull};
use atoll_types::Reference;

use super::heals::{as_of, pull_one};
use crate::client::read_manifest;
use crate::world::World;

pub(crate) async fn check(world: &Arc<World>) {
    for repository in &world.content.repositories {
        let Ok(access) = (&OpenAuthorizer as &dyn Authorizer).access::<Pull>(&Identity::default(), repository) else {
            return;
        };
        for image in &world.content.images {
            for node in world.running() {
                let (revision, options) = (world.log.revision(), as_of(world.log.revision()));
                let reference = Reference::Digest(image.digest);
                if read_manifest(&node, &access, &reference, &options).await.is_err() {
                    // Not visible; whether it should be is another question.
                    continue;
                }
                for digest in &image.blobs {
                    let pulled = pull_one(&node, &access, digest, revision).await;
                    if let Err(error) = pulled {
                        let what = format!(
                            "{repository}: {} shows {} and not its {digest}: {error}",
                            node.index, image.digest
                        );
                        world.judge.violated("I4", what);
                    }
                }
            }
        }
    }
}

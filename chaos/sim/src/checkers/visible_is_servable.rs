//! I4: of a manifest that is visible in a region, every blob and every child is servable there.

use std::sync::Arc;

use atoll_auth::{Access, Authorizer, Identity, OpenAuthorizer, Pull};
use atoll_registry::RegistryError;
use atoll_types::{Digest, Reference};

use super::heals::{as_of, pull_one};
use crate::client::read_manifest;
use crate::content::Image;
use crate::node::Node;
use crate::world::World;

pub(crate) async fn check(world: &Arc<World>) {
    for repository in &world.content.repositories {
        let Ok(access) = (&OpenAuthorizer as &dyn Authorizer).access::<Pull>(&Identity::default(), repository) else {
            return;
        };
        for image in world.content.manifests() {
            for node in world.running() {
                // Whether what is not visible should be is another question.
                if shows(world, &node, &access, &image.digest).await.is_ok() {
                    check_one(world, &node, &access, image).await;
                }
            }
        }
    }
}

async fn shows(world: &World, node: &Node, access: &Access<Pull>, manifest: &Digest) -> Result<(), RegistryError> {
    let options = as_of(world.log.revision());
    read_manifest(node, access, &Reference::Digest(*manifest), &options).await.map(|_| ())
}

async fn check_one(world: &World, node: &Node, access: &Access<Pull>, image: &Image) {
    for blob in &image.blobs {
        let pulled = pull_one(node, access, blob, world.log.revision()).await.map(|_| ());
        tell(world, node, access, image, blob, pulled);
    }
    for child in &image.children {
        let shown = shows(world, node, access, child).await;
        tell(world, node, access, image, child, shown);
    }
}

fn tell(
    world: &World,
    node: &Node,
    access: &Access<Pull>,
    image: &Image,
    of: &Digest,
    served: Result<(), RegistryError>,
) {
    if let Err(error) = served {
        let what = format!("{}: {} shows {} and not its {of}: {error}", access.repository(), node.index, image.digest);
        world.judge.violated("I4", what);
    }
}

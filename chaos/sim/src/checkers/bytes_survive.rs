//! I1: what was acknowledged and not deleted since is there, at every node, with identical bytes. What was never
//! acknowledged may be there or not; what is there is whole.

use std::sync::Arc;

use atoll_auth::{Authorizer, Identity, OpenAuthorizer, Pull};
use atoll_metadata::Rejection;
use atoll_registry::RegistryError;
use atoll_types::Reference;

use super::heals::{as_of, pull_one};
use crate::client::read_manifest;
use crate::history::{Deed, Event, Register};
use crate::node::Node;
use crate::world::World;

pub(crate) async fn check(world: &Arc<World>) {
    let registers: Vec<(Register, bool)> =
        world.history(|history| history.registers().map(|(of, events)| (of.clone(), must_be_there(events))).collect());
    for (register, must) in registers {
        for node in world.running() {
            look(world, &node, &register, must).await;
        }
    }
}

/// Whether some acknowledged write came after everything that may have removed it.
fn must_be_there(events: &[Event]) -> bool {
    let removes = |event: &&Event| matches!(event.deed, Deed::Remove | Deed::RemoveIf(_));
    // A removal of unknown outcome may come at any time.
    let last_removal = events.iter().filter(removes).map(|event| event.end_ms.unwrap_or(u64::MAX)).max();
    let puts = events.iter().filter(|event| event.end_ms.is_some());
    let last_put = puts.filter(|event| matches!(event.deed, Deed::Put(_) | Deed::Swap(..))).map(|e| e.start_ms).max();
    last_put.is_some_and(|put| last_removal.is_none_or(|removal| removal < put))
}

async fn look(world: &World, node: &Node, register: &Register, must: bool) {
    let (Register::Tag(repository, _) | Register::Manifest(repository, _) | Register::Link(repository, _)) = register;
    let Ok(access) = (&OpenAuthorizer as &dyn Authorizer).access::<Pull>(&Identity::default(), repository) else {
        return;
    };
    let revision = world.log.revision();
    let options = as_of(revision);
    let found = match register {
        Register::Link(_, digest) => pull_one(node, &access, digest, revision).await.map(|bytes| (*digest, bytes)),
        Register::Tag(_, tag) => read_manifest(node, &access, &Reference::Tag(tag.clone()), &options).await,
        Register::Manifest(_, digest) => read_manifest(node, &access, &Reference::Digest(*digest), &options).await,
    };
    match found {
        Ok((digest, bytes)) if world.content.bytes(&digest) == Some(&bytes) => {}
        Ok((digest, _)) => {
            world.judge.violated("I1", format!("{register:?} at node {}: other bytes than {digest}", node.index))
        }
        Err(error) if !must && is_absent(&error) => {}
        Err(error) => {
            world.judge.violated("I1", format!("{register:?} at node {} (acknowledged: {must}): {error}", node.index))
        }
    }
}

pub(crate) fn is_absent(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Rejected(
            Rejection::BlobUnknown(_)
                | Rejection::ManifestUnknown(_)
                | Rejection::TagUnknown(_)
                | Rejection::RepositoryUnknown(_)
        )
    )
}

//! I14: within 60 s of the last fault healing there is one leader, all nodes have applied everything, and no region
//! lacks anything; and a fresh push pulls everywhere.

use std::sync::Arc;
use std::time::Duration;

use atoll_auth::{Access, Action, Authorizer, Identity, OpenAuthorizer, Pull, Push};
use atoll_metadata::read;
use atoll_registry::{Consistency, MetadataGroupExt as _, Mode, ReadOptions, RegistryError, WriteOptions};
use atoll_types::{Digest, Revision};
use bytes::Bytes;
use futures::stream;
use tokio::time::{Instant, sleep};

use crate::client::read as read_blob;
use crate::node::Node;
use crate::world::World;

/// The longest that healing may take.
const HEAL_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// The longest that one read may take.
const READ_MAX: Duration = Duration::from_secs(20);

/// Waits until all is well, and after a fresh push once more; false when it does not get so.
pub(crate) async fn check(world: &Arc<World>) -> bool {
    if !settle(world).await {
        return false;
    }
    push_and_pull(world).await;
    settle(world).await
}

async fn settle(world: &World) -> bool {
    let until = Instant::now() + HEAL_MAX;
    while let Some(ill) = illness(world) {
        if Instant::now() >= until {
            world.judge.violated("I14", format!("after {HEAL_MAX:?} without faults {ill}"));
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

fn illness(world: &World) -> Option<String> {
    if world.log.leader().is_none() {
        return Some("nobody leads".to_owned());
    }
    let committed = world.log.revision();
    for node in world.running() {
        let freshness = node.metadata.freshness();
        if freshness.mode == Mode::ReadOnly || freshness.applied != committed {
            return Some(format!(
                "node {} is at {} of {committed}, {:?}",
                node.index, freshness.applied, freshness.mode
            ));
        }
        for region in world.regions() {
            let lag = node.metadata.read(|kv| read::lag(kv, &region));
            if !lag.as_ref().is_ok_and(|lag| lag.blobs == 0) {
                let failures: Vec<_> =
                    node.replication.failures().iter().map(|failure| format!("{failure:?}")).collect();
                return Some(format!(
                    "{region} lags, as node {} sees it: {lag:?}; {}",
                    node.index,
                    failures.join("; ")
                ));
            }
        }
    }
    None
}

fn access<A: Action>(world: &World) -> Option<Access<A>> {
    let repository = world.content.repositories.first()?;
    (&OpenAuthorizer as &dyn Authorizer).access(&Identity::default(), repository).ok()
}

/// A blob that nobody has pushed before, pulled at once at every node.
async fn push_and_pull(world: &Arc<World>) {
    let bytes = Bytes::from(format!("fresh at {}", world.trace.now_ms()));
    let digest = Digest::sha256(&bytes);
    let (Some(push), Some(pull)) = (access::<Push>(world), access::<Pull>(world)) else { return };
    let running = world.running();
    let Some(first) = running.first() else { return };
    let deadline = Instant::now() + Duration::from_secs(5);
    let options = WriteOptions { request: None, client_address: String::new(), deadline };
    let body = stream::iter([Ok(bytes.clone())]);
    let linked = match first.registry.upload_whole(&push, &digest, None, body, &options).await {
        Ok(linked) => linked,
        Err(error) => return world.judge.violated("I14", format!("a fresh push fails: {error}")),
    };
    for node in &running {
        match pull_one(node, &pull, &digest, linked.revision).await {
            Ok(pulled) if pulled == bytes => {}
            Ok(_) => world.judge.violated("I3", "a fresh push is pulled as something else"),
            Err(error) => {
                world.judge.violated("I14", format!("node {} does not serve a fresh push: {error}", node.index))
            }
        }
    }
}

/// All of a blob, as of a revision.
pub(crate) async fn pull_one(
    node: &Node,
    access: &Access<Pull>,
    digest: &Digest,
    revision: Revision,
) -> Result<Bytes, RegistryError> {
    let blob = node.registry.open_blob(access, digest, &as_of(revision)).await?;
    read_blob(node, &blob, 0..blob.size).await
}

/// Reads that show a revision, and wait for nothing else.
pub(crate) fn as_of(revision: Revision) -> ReadOptions {
    let deadline = Instant::now() + READ_MAX;
    ReadOptions { consistency: Consistency::Default, min_revision: Some(revision), deadline }
}

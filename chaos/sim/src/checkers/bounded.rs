//! I13: when nothing is asked for any more, nothing is held: no fetch, no object half written, no session beyond its
//! idle time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::node::UPLOAD_IDLE;
use crate::world::World;

/// Sessions end within their idle time, and fetches linger for less.
const QUIET_MAX: Duration = Duration::from_secs(2 * UPLOAD_IDLE.as_secs());
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn check(world: &Arc<World>) {
    let until = Instant::now() + QUIET_MAX;
    while let Some(held) = held(world) {
        if Instant::now() >= until {
            return world.judge.violated("I13", format!("after {QUIET_MAX:?} without a request {held}"));
        }
        sleep(LOOK).await;
    }
}

fn held(world: &World) -> Option<String> {
    for node in world.running() {
        if node.replication.in_flight() > 0 {
            return Some(format!("node {} has {} blobs under way", node.index, node.replication.in_flight()));
        }
    }
    let disks = || world.places.iter().take(3).map(|place| &place.disk);
    let (writers, left): (u64, u64) = (disks().map(|d| d.writers()).sum(), disks().map(|d| d.leftovers()).sum());
    (writers + left > 0).then(|| format!("{writers} objects are half written, and {left} more were by who has died"))
}

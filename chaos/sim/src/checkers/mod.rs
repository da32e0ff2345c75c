//! What must always hold, one file for each invariant. Some are looked at while a run goes on (by the clients, and by
//! the log at each revision), the rest when it is over and everything was mended.

pub(crate) mod bounded;
pub(crate) mod bytes_survive;
pub(crate) mod cut_off;
pub(crate) mod heals;
pub(crate) mod lag;
pub(crate) mod linearizable;
pub(crate) mod nothing_referenced_goes;
pub(crate) mod state;
pub(crate) mod torn;
pub(crate) mod visible_is_servable;
pub(crate) mod wanted;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::judge::Stopwatch;
use crate::world::World;

/// A copy that was reported as bad is not reported again before.
const REPORT_SILENCE: Duration = Duration::from_secs(65);
/// What a report may take.
const REPORT_WAIT: Duration = Duration::from_secs(5);

/// Looks at everything, in an order in which each finds what it needs.
pub(crate) async fn check_all(world: &Arc<World>) {
    let healed = timed(world, "I14", heals::check(world)).await;
    timed(world, "I12", async { state::check(world) }).await;
    timed(world, "I2", async { linearizable::check(world) }).await;
    if !healed {
        // What follows asks for what only a healed cluster owes.
        return;
    }
    timed(world, "I1", bytes_survive::check(world)).await;
    timed(world, "I4", visible_is_servable::check(world)).await;
    // Reading finds what was damaged at rest; it is dropped, and fetched again. A copy that was reported in vain is
    // reported again after a while.
    sleep(REPORT_SILENCE).await;
    timed(world, "I1", bytes_survive::check(world)).await;
    sleep(REPORT_WAIT).await;
    timed(world, "I14", heals::check(world)).await;
    // Two nodes of a region may have fetched the same: what is refused is removed before a fetch has ended.
    timed(world, "I13", bounded::check(world)).await;
    lag::check(world).await;
    timed(world, "I15", wanted::check(world)).await;
    timed(world, "I5", nothing_referenced_goes::check(world)).await;
    timed(world, "I3", torn::check(world)).await;
}

async fn timed<T>(world: &World, invariant: &str, check: impl Future<Output = T>) -> T {
    let watch = Stopwatch::start();
    let result = check.await;
    world.judge.looked(invariant, watch);
    result
}

//! One seed: a cluster, clients and faults for a while, then clients alone, then everything looked at.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::checkers;
use crate::client::Client;
use crate::dice::Dice;
use crate::disk::Synced;
use crate::faults::Faults;
use crate::judge::Findings;
use crate::node::Node;
use crate::trace::Trace;
use crate::weather::CALM_AFTER;
use crate::world::World;

/// How long faults go on, in virtual time.
const FAULTS: Duration = Duration::from_secs(30);
/// By when clients begin nothing new, and by when what they began must have ended.
const CLIENTS: Duration = Duration::from_secs(35);
const CLIENTS_END: Duration = Duration::from_secs(90);
/// Requests of one client.
const REQUESTS: usize = 45;
/// Requests of one client when nothing goes wrong any more, and how long they may take.
const CALM_REQUESTS: usize = 12;
const CALM: Duration = Duration::from_secs(20);
/// Tries to resume what clients have paused.
const RESUME_TRIES: usize = 20;

/// What a run came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// Of all that happened.
    pub(crate) hash: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) findings: Findings,
}

/// What panicked, in any task.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs one seed. With `keep`, the trace is handed out too.
pub(crate) fn run(seed: u64, keep: bool) -> anyhow::Result<(Outcome, Vec<String>)> {
    std::panic::set_hook(Box::new(|panic| PANICS.lock().push(panic.to_string())));
    let spool = tempfile::tempdir_in(memory_folder()).context("no folder for spools")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.context("no runtime")?;
    runtime.block_on(simulate(seed, spool.path().to_owned(), keep))
}

/// A folder in memory, where there is one.
fn memory_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

async fn simulate(seed: u64, spool: PathBuf, keep: bool) -> anyhow::Result<(Outcome, Vec<String>)> {
    let trace = Trace::new(keep);
    let world = World::new(seed, spool, trace.clone()).await?;
    let clients = 3 + Dice::new(seed, "clients").below(2);
    play(&world, clients).await;
    mend(&world).await;
    calm(&world, clients).await;
    resume(&world).await;
    world.count_all_store_faults();
    checkers::check_all(&world).await;
    for panic in PANICS.lock().drain(..) {
        world.judge.violated("panic", panic);
    }
    let outcome = Outcome { seed, hash: trace.hash(), virtual_ms: trace.now_ms(), findings: world.judge.findings() };
    Ok((outcome, trace.lines()))
}

/// Clients and faults.
async fn play(world: &Arc<World>, clients: usize) {
    let until = Instant::now() + FAULTS;
    let mut faults = JoinSet::new();
    faults.spawn(Faults::new(world, "network faults", until).of_the_network());
    faults.spawn(Faults::new(world, "node faults", until).of_the_nodes());
    ask(world, (0..clients).map(|number| format!("client{number}")), REQUESTS, CLIENTS).await;
    ended(&mut faults).await;
}

/// Clients alone, once no fault can be seen any more; what some have paused stays so.
async fn calm(world: &Arc<World>, clients: usize) {
    sleep(CALM_AFTER).await;
    world.trace.note("run", "it is calm");
    ask(world, (0..clients).map(|number| format!("calm{number}")), CALM_REQUESTS, CALM).await;
}

/// Lets clients make so many requests each, or as many as there is time for.
async fn ask(world: &Arc<World>, names: impl Iterator<Item = String>, requests: usize, time: Duration) {
    world.over.store(false, Ordering::SeqCst);
    let mut clients = JoinSet::new();
    for name in names {
        clients.spawn(Client::new(world, name).run(requests));
    }
    let _ = timeout(time, ended(&mut clients)).await;
    world.over.store(true, Ordering::SeqCst);
    if timeout(CLIENTS_END, ended(&mut clients)).await.is_err() {
        world.judge.violated("I13", "a request has not ended long after its deadline");
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while let Some(task) = tasks.join_next().await {
        // A panic is in the list of panics.
        drop(task);
    }
}

/// Ends all faults. From now on everything must become well by itself.
async fn mend(world: &Arc<World>) {
    let _storm = world.weather.storm();
    world.net.heal();
    world.log.set_skew(0);
    for place in &world.places {
        place.disk.set_full(false);
        [Synced::Bytes, Synced::Name].into_iter().for_each(|what| place.disk.fail_syncs(what, 0));
        world.log.fail_next_sync(place.index, false);
        world.log.lag(place.index, Duration::ZERO);
        if world.node(place.index).is_none()
            && let Err(error) = world.start(place.index)
        {
            world.judge.violated("harness", format!("node {} does not start: {error:#}", place.index));
        }
    }
    world.running().iter().for_each(Node::mend_store);
    world.trace.note("run", "all faults are mended");
}

/// Lets regions fetch again.
async fn resume(world: &Arc<World>) {
    // All of them: of a pause and a resume at once, nobody knows which was the last.
    for region in world.regions() {
        for _ in 0..RESUME_TRIES {
            let Some(node) = world.running().into_iter().next() else { break };
            if atoll_replication::resume(&*node.metadata, region.clone(), Duration::from_secs(2)).await.is_ok() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

//! The real group (openraft, gRPC, RocksDB) on real threads, under a schedule of faults that a seed decides: links are
//! cut and mended, the lead is handed over, clocks are set, nodes stop, are dropped where they stand, crash alone and
//! together, and stay away until they need a snapshot, which is cut off, while clients write and read. The schedule is
//! the seed's, the interleaving is not; the simulation in `chaos/sim` has both, and no Raft.
//!
//! `ATOLL_CONSENSUS_SEEDS=FROM..TO` (or a number of seeds) runs others than the few that always run,
//! `ATOLL_CONSENSUS_SEEDS_AT_ONCE` so many at once: most of a run is waiting. A seed that fails is named with what
//! happened, and its folders stay.
//!
//! Failpoints are not in it: they are the process', armed once by its environment, and these nodes share one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;
mod cluster;
mod counts;
mod history;
mod image;
mod link;
mod node;
mod schedule;
mod trouble;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_consensus::Retention;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use clients::Clients;
use cluster::Cluster;
use counts::Counts;
use history::History;
use schedule::Schedule;
use trouble::Troubles;

/// A few, so that each run of the tests has them.
const SEEDS: Range<u64> = 1..3;
const AT_ONCE: usize = 2;
/// So many seeds have whatever luck decides.
const LUCKY: usize = 10;
/// A run takes a third of a minute, on a machine that does nothing else.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Entries that are kept, and after how many a snapshot is made.
const RETENTIONS: [(u64, u64); 3] = [(4, 16), (16, 48), (64, 96)];

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("ATOLL_CONSENSUS_SEEDS") else { return SEEDS };
    let number = |text: &str| text.parse::<u64>().expect("a number of seeds, or FROM..TO");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 1..number(&text) + 1,
    }
}

fn at_once() -> usize {
    let Ok(text) = std::env::var("ATOLL_CONSENSUS_SEEDS_AT_ONCE") else { return AT_ONCE };
    text.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn under_any_schedule_nothing_acknowledged_is_lost_and_all_nodes_end_up_equal() {
    let (mut left, mut running, mut batch) = (seeds(), JoinSet::new(), Batch::default());
    loop {
        while running.len() < at_once()
            && let Some(seed) = left.next()
        {
            running.spawn(tell(seed));
        }
        let Some(ended) = running.join_next().await else { break };
        batch.take_in(ended.expect("it is told"));
    }
    batch.assert_sound();
}

/// What came of all seeds.
#[derive(Default)]
struct Batch {
    seeds: usize,
    counts: Counts,
    failed: Vec<u64>,
}

impl Batch {
    fn take_in(&mut self, (seed, ended): (u64, Option<Counts>)) {
        self.seeds += 1;
        match ended {
            Some(counts) => self.counts.add(&counts),
            None => self.failed.push(seed),
        }
    }

    fn assert_sound(mut self) {
        println!("{} seeds: {}", self.seeds, self.counts);
        self.failed.sort_unstable();
        assert!(self.failed.is_empty(), "seeds {:?} have failed; see above", self.failed);
        let missing: Vec<_> = schedule::BY_LUCK.iter().filter(|what| self.counts.of(what) == 0).collect();
        assert!(missing.is_empty() || self.seeds < LUCKY, "there were no {missing:?}");
    }
}

/// Runs a seed and tells what came of it; nothing when it failed.
async fn tell(seed: u64) -> (u64, Option<Counts>) {
    let troubles = Troubles::new(seed);
    let ended = match tokio::spawn(timeout(RUN_MAX, run(seed, troubles.clone()))).await {
        Ok(Ok(counts)) => Ok(counts),
        Ok(Err(_)) => Err("it does not end".to_owned()),
        Err(error) => Err(why(error)),
    };
    match ended {
        Ok(counts) => {
            println!("seed {seed}: {counts}");
            (seed, Some(counts))
        }
        Err(why) => {
            println!("seed {seed} FAILED: {why}\n{}\nthe same schedule again:", troubles.story());
            println!(
                "  ATOLL_CONSENSUS_SEEDS={seed}..{} cargo test --locked --package atoll-consensus --test seeded",
                seed + 1
            );
            (seed, None)
        }
    }
}

fn why(error: JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

async fn run(seed: u64, troubles: Arc<Troubles>) -> Counts {
    let (entries, snapshot_every) = RETENTIONS[(seed % 3) as usize];
    let retention = Retention { entries, snapshot_every, ..Retention::default() };
    let cluster = Arc::new(Cluster::formed(3, retention, troubles.clone()).await);
    troubles.note(&format!("formed in {}", cluster.folder().display()));
    let history = Arc::new(History::new());
    let mut clients = Clients::start(&cluster, &history, seed);
    Schedule::new(seed, &cluster).play(|| clients.assert_sound()).await;
    let mut counts = clients.end().await;
    counts.add(&cluster.fired.lock());
    troubles.note("all is mended");
    cluster.mend().await;
    cluster.settle().await;
    cluster.assert_equal().await;
    cluster.assert_told(&history).await;
    let missing = schedule::missing(&counts);
    assert!(missing.is_empty(), "faults never fired: {missing:?}");
    let [written, reads] = ["writes acknowledged", "reads"].map(|what| counts.of(what));
    assert!(written > 20 && reads > 10, "{written} writes and {reads} reads are too few to prove anything");
    let cluster = Arc::into_inner(cluster).expect("nobody else is left");
    cluster.remove().await;
    troubles.assert_none();
    counts
}

//! Leader time never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_consensus::{Clock, SystemClock};
use atoll_metadata::read;

use crate::harness::{Cluster, push, soon, within};

/// A wall clock that can be set.
#[derive(Debug, Default)]
struct Hands {
    wall_ms: AtomicU64,
    monotonic: SystemClock,
}

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        self.monotonic.monotonic()
    }
}

const HOUR_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_does_not_turn_stamps_back() {
    within(async {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(100 * HOUR_MS, Ordering::Relaxed);
        let mut cluster = Cluster::new(3);
        cluster.clock = hands.clone();
        for index in 0..3 {
            cluster.start(index).await;
        }
        cluster.form().await;
        let time = |cluster: &Cluster, node: usize| cluster.read(node, read::last_time_ms);
        cluster.propose(0, push("before")).await.expect("written");
        let before = time(&cluster, 0);
        assert!(before >= 100 * HOUR_MS);

        hands.wall_ms.store(99 * HOUR_MS, Ordering::Relaxed);
        cluster.propose(0, push("after")).await.expect("written");
        let after = time(&cluster, 0);
        assert!((before..before + HOUR_MS).contains(&after), "{after} after {before}");

        // Another leader, whose own clock was never ahead, goes on from there.
        let leader = cluster.leader().await;
        cluster.stop(leader).await;
        let writer = (leader + 1) % 3;
        cluster.propose(writer, push("elsewhere")).await.expect("written");
        cluster.node(writer).barrier(soon()).await.expect("a barrier");
        let elsewhere = time(&cluster, writer);
        assert!((after..before + HOUR_MS).contains(&elsewhere), "{elsewhere} after {after}");
    })
    .await;
}

/// The last entries are in the state, and none of them is applied again after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_does_not_stop_leader_time_after_a_restart() {
    within(async {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(100 * HOUR_MS, Ordering::Relaxed);
        let mut cluster = Cluster::new(1);
        cluster.clock = hands.clone();
        cluster.start(0).await;
        cluster.form().await;
        cluster.propose(0, push("before")).await.expect("written");
        let before = cluster.read(0, read::last_time_ms);
        cluster.stop(0).await;

        hands.wall_ms.store(99 * HOUR_MS, Ordering::Relaxed);
        cluster.start(0).await;
        cluster.node(0).wait_ready(soon()).await.expect("it leads again");
        let (mut after, mut number) = (before, 0);
        while after == before {
            cluster.propose(0, push(&format!("after-{number}"))).await.expect("written");
            (after, number) = (cluster.read(0, read::last_time_ms), number + 1);
        }
        assert!((before..before + HOUR_MS).contains(&after), "{after} after {before}");
    })
    .await;
}

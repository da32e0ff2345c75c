//! A node without a quorum says so, in time, and writes nothing.

use std::time::Duration;

use atoll_consensus::{BarrierError, Mode, ProposeError};
use tokio::time::Instant;

use crate::harness::{Cluster, push, soon, within};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_node_is_read_only_in_time_and_refuses_at_once() {
    within(async {
        let mut cluster = Cluster::formed(3).await;
        let leader = cluster.leader().await;
        cluster.propose(leader, push("before")).await.expect("written");
        let lost = Instant::now();
        for index in (0..3).filter(|index| *index != leader) {
            cluster.stop(index).await;
        }
        cluster.wait_mode(leader, Mode::ReadOnly).await;
        // The window counts from the start of the last barrier that was answered; a busy machine adds to it.
        let took = lost.elapsed();
        assert!(took < cluster.timing.quorum_window() + Duration::from_secs(2), "read-only after {took:?}");

        let asked = Instant::now();
        let refused = cluster.propose(leader, push("after")).await.expect_err("there is no quorum");
        assert!(matches!(refused, ProposeError::NotProposed(_)), "{refused}");
        assert!(asked.elapsed() < Duration::from_millis(500), "refused at once, not after {:?}", asked.elapsed());
        let barrier = cluster.node(leader).barrier(soon()).await;
        assert_eq!(barrier, Err(BarrierError::NoQuorum));
        assert!(cluster.repositories(leader).contains(&"before".to_owned()), "it still serves what it has");
        let fresh = cluster.node(leader).freshness();
        assert!(fresh.read_only_since.is_some());
        assert!(fresh.staleness.expect("it was current once") >= cluster.timing.quorum_window());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_comes_back_is_written_to_again() {
    within(async {
        let mut cluster = Cluster::formed(3).await;
        let others: Vec<_> = (1..3).collect();
        for index in &others {
            cluster.stop(*index).await;
        }
        cluster.wait_mode(0, Mode::ReadOnly).await;
        for index in &others {
            cluster.start(*index).await;
        }
        for index in 0..3 {
            cluster.wait_mode(index, Mode::ReadWrite).await;
        }
        cluster.propose(0, push("healed")).await.expect("written");
        cluster.node(2).barrier(soon()).await.expect("a barrier");
        assert_eq!(cluster.repositories(2), ["healed"]);
        cluster.assert_equal().await;
    })
    .await;
}

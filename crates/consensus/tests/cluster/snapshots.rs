//! A node that the log cannot bring up any more gets a snapshot.

use atoll_consensus::Retention;

use crate::harness::{Cluster, eventually, push, soon, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_the_log_catches_up_by_snapshot() {
    within(async {
        let mut cluster = Cluster::new(3);
        cluster.retention = Retention { entries: 4, snapshot_every: 16, ..Retention::default() };
        cluster.start(0).await;
        cluster.start(1).await;
        cluster.form().await;
        for number in 0..80 {
            cluster.propose(number % 2, push(&format!("r{number}"))).await.expect("written");
        }
        let leader = cluster.leader().await;
        eventually("the log is purged", || (cluster.node(leader).status().first_log.0 > 16).then_some(())).await;

        cluster.start(2).await;
        let generation = cluster.node(2).generation();
        cluster.node(2).wait_ready(soon()).await.expect("it catches up");
        assert_eq!(cluster.repositories(2).len(), 80);
        assert!(cluster.node(2).generation() > generation, "by a snapshot");
        cluster.propose(2, push("after")).await.expect("written");
        cluster.assert_equal().await;

        // What was installed is there after a restart, and the log goes on from it.
        cluster.stop(2).await;
        cluster.start(2).await;
        cluster.node(2).wait_ready(soon()).await.expect("it is a member still");
        assert_eq!(cluster.repositories(2).len(), 81);
        cluster.assert_equal().await;
    })
    .await;
}

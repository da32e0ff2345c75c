//! A node that the log cannot bring up any more gets a snapshot.

use std::path::Path;

use atoll_consensus::Retention;

use crate::harness::{Cluster, eventually, push, soon, within};

/// Two of three nodes have written so much that their logs do not reach back to what the third one, never started, needs.
async fn without_the_third() -> Cluster {
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
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_the_log_catches_up_by_snapshot() {
    within(async {
        let mut cluster = without_the_third().await;

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

/// Nothing is written meanwhile, so that no newer snapshot is made but for this one's sake.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_damaged_where_it_is_sent_from_is_made_anew() {
    within(async {
        let mut cluster = without_the_third().await;
        let leader = cluster.leader().await;
        let damaged = damage(&cluster.data(leader).join("snapshots"));
        assert!(damaged > 0, "there is a snapshot");

        cluster.start(2).await;
        cluster.node(2).wait_ready(soon()).await.expect("it catches up");
        eventually("it has it all", || (cluster.repositories(2).len() == 80).then_some(())).await;
        cluster.assert_equal().await;
    })
    .await;
}

/// Flips a bit of the first row of every table. A snapshot's files are those of the state, too, which stays whole: damaged
/// copies take their place.
fn damage(folder: &Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            damaged += damage(&path);
        } else if path.extension().is_some_and(|e| e == "sst") {
            let mut bytes = std::fs::read(&path).expect("a file");
            bytes[8] ^= 1;
            let copy = path.with_extension("damaged");
            std::fs::write(&copy, bytes).expect("a copy");
            std::fs::rename(&copy, &path).expect("it takes its place");
            damaged += 1;
        }
    }
    damaged
}

//! Barriers, and what is told of how current a node is.

use std::time::Duration;

use atoll_consensus::Mode;

use crate::harness::{Cluster, push, soon, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_at_any_node_sees_the_newest_write() {
    within(async {
        let cluster = Cluster::formed(3).await;
        for number in 0..30 {
            let (writer, reader) = (number % 3, (number + 1) % 3);
            let name = format!("r{number}");
            let written = cluster.propose(writer, push(&name)).await.expect("written");
            let seen = cluster.node(reader).barrier(soon()).await.expect("a barrier");
            assert!(seen >= written.revision, "{seen} covers {}", written.revision);
            assert!(cluster.repositories(reader).contains(&name), "node {reader} misses {name}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_knows_how_current_it_is() {
    within(async {
        let mut cluster = Cluster::new(3);
        for index in 0..3 {
            cluster.start(index).await;
        }
        let before = cluster.node(0).freshness();
        assert_eq!((before.mode, before.staleness), (Mode::ReadOnly, None), "nothing is proved yet");
        assert!(before.read_only_since.is_some());
        cluster.form().await;
        for index in 0..3 {
            let fresh = cluster.node(index).freshness();
            assert_eq!(fresh.mode, Mode::ReadWrite);
            let staleness = fresh.staleness.expect("known after a barrier");
            assert!(staleness < Duration::from_secs(1), "node {index}: {staleness:?}");
            assert!(fresh.read_only_since.is_none());
        }
    })
    .await;
}

//! Leaders come and go; what was acknowledged stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Cluster, push, soon, within};

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_ends_the_others_go_on_and_lose_nothing() {
    within(async {
        let mut cluster = Cluster::formed(3).await;
        let leader = cluster.leader().await;
        let writer = (leader + 1) % 3;
        let mut acknowledged = Vec::new();
        for number in 0..20 {
            let name = format!("before-{number}");
            cluster.propose(writer, push(&name)).await.expect("written");
            acknowledged.push(name);
        }
        cluster.stop(leader).await;
        // Not after an election: the first of these writes rides it out.
        for number in 0..20 {
            let name = format!("after-{number}");
            cluster.propose(writer, push(&name)).await.expect("written in spite of the election");
            acknowledged.push(name);
        }
        cluster.start(leader).await;
        for reader in 0..3 {
            cluster.node(reader).wait_ready(soon()).await.expect("a barrier");
            let repositories = cluster.repositories(reader);
            let lost: Vec<_> = acknowledged.iter().filter(|name| !repositories.contains(name)).collect();
            assert!(lost.is_empty(), "node {reader} has lost {lost:?}");
        }
        cluster.assert_equal().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_under_writes() {
    within(async {
        let cluster = Cluster::formed(3).await;
        let done = Arc::new(AtomicBool::new(false));
        let writing = async {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) || written < 20 {
                cluster.propose(written % 3, push(&format!("r{written}"))).await.expect("written");
                written += 1;
            }
            written
        };
        let handing = async {
            for _ in 0..3 {
                let leader = cluster.leader().await;
                let next = (leader + 1) % 3;
                let to = cluster.members[next].node;
                cluster.node(leader).transfer_leader(to, soon()).await.expect("handed over");
                assert_eq!(cluster.leader().await, next);
            }
            done.store(true, Ordering::Relaxed);
        };
        let (written, ()) = tokio::join!(writing, handing);
        for reader in 0..3 {
            cluster.node(reader).barrier(soon()).await.expect("a barrier");
            assert_eq!(cluster.repositories(reader).len(), written);
        }
        cluster.assert_equal().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_restart_and_have_it_all() {
    within(async {
        let mut cluster = Cluster::formed(3).await;
        for number in 0..10 {
            cluster.propose(number % 3, push(&format!("r{number}"))).await.expect("written");
        }
        for index in 0..3 {
            cluster.stop(index).await;
        }
        for index in 0..3 {
            cluster.start(index).await;
        }
        // Declared members say so at every start.
        for index in 0..3 {
            cluster.node(index).initialize(&cluster.members).await.expect("nothing changes");
            cluster.node(index).wait_ready(soon()).await.expect("a barrier");
            assert_eq!(cluster.repositories(index).len(), 10);
        }
        cluster.propose(1, push("again")).await.expect("written");
        cluster.assert_equal().await;
    })
    .await;
}

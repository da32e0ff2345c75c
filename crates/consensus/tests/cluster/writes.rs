//! Writes at any node are seen at every node, and a request counts once.

use atoll_metadata::{Done, Outcome};
use atoll_types::RequestId;

use crate::harness::{Cluster, push, soon, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_each_node_is_read_at_every_node() {
    within(async {
        let cluster = Cluster::formed(3).await;
        for writer in 0..3 {
            let name = format!("written-at-{writer}");
            let applied = cluster.propose(writer, push(&name)).await.expect("written");
            assert_eq!(applied.outcome, Outcome::Done(Done::ManifestPut { created: true }));
            assert!(cluster.repositories(writer).contains(&name), "an answered write is applied where it was made");
            for reader in 0..3 {
                cluster.node(reader).wait_applied(applied.revision, soon()).await.expect("applied");
                assert!(cluster.repositories(reader).contains(&name), "node {reader} after a write at {writer}");
            }
        }
        cluster.assert_equal().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writes_at_once_are_all_there_once() {
    within(async {
        let cluster = Cluster::formed(3).await;
        let writes = (0..120).map(|number| {
            let cluster = &cluster;
            async move { cluster.propose(number % 3, push(&format!("r{number}"))).await.expect("written").revision }
        });
        let mut revisions = futures::future::join_all(writes).await;
        revisions.sort();
        revisions.dedup();
        assert_eq!(revisions.len(), 120, "one command is one revision");
        cluster.assert_equal().await;
        for reader in 0..3 {
            cluster.node(reader).barrier(soon()).await.expect("a barrier");
            assert_eq!(cluster.repositories(reader).len(), 120);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_through_several_nodes_is_applied_once() {
    within(async {
        let cluster = Cluster::formed(3).await;
        let (request, seen) = (RequestId::random(), cluster.node(0).applied());
        let tries = (0..3).map(|node| cluster.propose_seen(node, request, push("once"), true, seen));
        let answers = futures::future::join_all(tries).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("written")).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        let again = cluster.propose_seen(2, request, push("once"), true, seen).await.expect("kept");
        assert_eq!(again, answers[0]);
        cluster.assert_equal().await;
    })
    .await;
}

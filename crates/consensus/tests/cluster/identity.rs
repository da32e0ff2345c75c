//! Calls of another cluster or epoch are refused.

use std::time::Duration;

use atoll_consensus::{GroupError, GroupOptions};
use atoll_proto::metadata::v1::StatusRequest;
use atoll_proto::metadata::v1::metadata_client::MetadataClient;
use atoll_proto::raft::v1::raft_client::RaftClient;
use atoll_proto::raft::v1::{Vote, VoteRequest};
use tokio::time::Instant;
use tonic::Code;

use crate::harness::{Cluster, soon, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_the_clusters_name_is_refused() {
    within(async {
        let cluster = Cluster::formed(1).await;
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", cluster.members[0].grpc_address))
            .expect("an address")
            .connect()
            .await
            .expect("a connection");
        let term = cluster.node(0).status().term;
        let vote = Vote { term: term + 100, node: 9, committed: false };
        let request = VoteRequest { vote: Some(vote), last: None, leadership_transfer: true };
        let refused = RaftClient::new(channel.clone()).vote(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(&cluster.id.to_string()), "{refused}");
        let refused = MetadataClient::new(channel).status(StatusRequest::default()).await.expect_err("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert_eq!(cluster.node(0).status().term, term, "a stranger's vote raises no term");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_epoch_is_left_out() {
    within(async {
        let mut cluster = Cluster::new(3);
        cluster.start(0).await;
        cluster.start(1).await;
        let old = GroupOptions { epoch: 7, ..cluster.options(2) };
        cluster.start_with(2, old).await;
        cluster.node(0).initialize(&cluster.members).await.expect("formed");
        cluster.node(0).wait_ready(soon()).await.expect("two of three are a quorum");
        cluster.node(1).wait_ready(soon()).await.expect("two of three are a quorum");
        let deadline = Instant::now() + Duration::from_secs(2);
        let status = cluster.node(0).node_status(cluster.members[2].node, None, deadline).await;
        let Err(GroupError::Unreachable { why, .. }) = status else { panic!("{status:?}") };
        assert!(why.contains("epoch 7"), "{why}");
        assert_eq!(cluster.node(2).applied().0, 0, "nothing reached it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_tells_how_it_is_and_proves_its_state() {
    within(async {
        let cluster = Cluster::formed(3).await;
        let revision = cluster.node(0).barrier(soon()).await.expect("a barrier");
        let mut hashes = Vec::new();
        for member in &cluster.members {
            let status = cluster.node(0).node_status(member.node, Some(revision), soon()).await.expect("it answers");
            assert_eq!((status.node, status.name.as_str()), (member.node, member.name.as_str()));
            assert_eq!(status.leader, cluster.node(0).leader());
            hashes.push(status.state_hash.expect("a hash"));
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0] && hash.0 == revision), "{hashes:?}");
        let (at, computed) = cluster.node(1).recompute_hash().await.expect("computed");
        assert_eq!(cluster.node(1).state_hash_at(at), Some(computed));
    })
    .await;
}

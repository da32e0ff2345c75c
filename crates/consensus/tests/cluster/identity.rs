//! Calls of another cluster or epoch are refused.

use std::sync::Arc;
use std::time::Duration;

use atoll_consensus::{Group, GroupError, GroupOptions, OnFatal};
use atoll_proto::metadata::v1::StatusRequest;
use atoll_proto::metadata::v1::metadata_client::MetadataClient;
use atoll_proto::raft::v1::raft_client::RaftClient;
use atoll_proto::raft::v1::{LogId, Vote, VoteRequest};
use atoll_storage::{DataFolder, FolderIdentity};
use tokio::time::Instant;
use tonic::Code;

use crate::harness::{Cluster, eventually, soon, within};

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

/// Asks a node for its vote; `incarnation` is the one that the candidate knows it by, `last` the candidate's newest entry.
async fn ask_for_vote(cluster: &Cluster, last: u64, incarnation: Option<String>) -> Result<bool, tonic::Status> {
    let address = format!("http://{}", cluster.members[0].grpc_address);
    let channel = tonic::transport::Endpoint::from_shared(address).expect("an address").connect_lazy();
    let mut request = tonic::Request::new(VoteRequest {
        vote: Some(Vote { term: 3, node: 9, committed: false }),
        last: Some(LogId { term: last.min(1), index: last }),
        leadership_transfer: false,
    });
    let mut head = vec![("atoll-cluster", cluster.id.to_string()), ("atoll-epoch", "0".to_owned())];
    head.extend(incarnation.map(|known| ("atoll-to-incarnation", known)));
    for (key, value) in head {
        request.metadata_mut().insert(key, value.parse().expect("text"));
    }
    RaftClient::new(channel).vote(request).await.map(|vote| vote.into_inner().granted)
}

/// A folder that is new may be one that was emptied: its node may have voted already, or acknowledged what the candidate
/// lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_gives_no_vote_to_a_candidate_with_a_history_that_does_not_know_it() {
    within(async {
        let mut cluster = Cluster::new(1);
        cluster.start(0).await;
        let refused = ask_for_vote(&cluster, 5, None).await.expect_err("it has a history");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert_eq!(cluster.node(0).status().term, 0, "no term is raised");
        assert!(ask_for_vote(&cluster, 0, None).await.expect("an answer"), "when the group is made nobody is known");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_votes_for_a_candidate_that_knows_it() {
    within(async {
        let mut cluster = Cluster::new(1);
        cluster.start(0).await;
        let own = cluster.node(0).incarnation().to_string();
        assert!(ask_for_vote(&cluster, 5, Some(own)).await.expect("an answer"));
    })
    .await;
}

/// The call itself ends the emptied node, and no vote is given.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_node_ends_when_it_is_called_by_its_old_incarnation() {
    within(async {
        let mut cluster = Cluster::new(1);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let on_fatal: OnFatal = Arc::new(move |why: &str| tell.send(why.to_owned()).expect("the test waits"));
        let options = GroupOptions { on_fatal, ..cluster.options(0) };
        cluster.start_with(0, options).await;
        for _ in 0..2 {
            let refused = ask_for_vote(&cluster, 5, Some("0".repeat(32))).await.expect_err("it is not that one");
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.metadata().contains_key("atoll-lost-folder"), "{refused:?}");
        }
        let why = told.recv().await.expect("a reason");
        assert!(why.contains("node-1") && why.contains("the group knows it"), "{why}");
        assert!(told.try_recv().is_err(), "it is told once");
        let own = cluster.node(0).incarnation().to_string();
        ask_for_vote(&cluster, 0, Some(own)).await.expect_err("it answers nobody any more");
        assert_eq!(cluster.node(0).status().term, 0, "no term is raised");
    })
    .await;
}

/// Starts a node that is stopped, with an epoch of its own.
async fn start_in(cluster: &Cluster, epoch: u64) -> Result<Group, GroupError> {
    let member = &cluster.members[0];
    let identity = FolderIdentity { cluster: Some(cluster.id), node: member.node, name: member.name.clone() };
    let folder = eventually("a data folder", || DataFolder::open(cluster.data(0), &identity).ok()).await;
    Group::start(GroupOptions { epoch, ..cluster.options(0) }, Arc::new(folder)).await
}

fn refusal(started: Result<Group, GroupError>) -> String {
    match started {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_takes_its_epoch_from_the_group_and_keeps_it() {
    within(async {
        let mut cluster = Cluster::new(1);
        cluster.start_with(0, GroupOptions { epoch: 2, ..cluster.options(0) }).await;
        cluster.stop(0).await;
        let marker = DataFolder::peek(&cluster.data(0)).expect("readable").expect("a marker");
        assert_eq!((marker.cluster, marker.epoch), (Some(cluster.id), 2));
        for other in [1, 3] {
            let why = refusal(start_in(&cluster, other).await);
            assert!(why.contains("epoch 2") && why.contains(&format!("epoch {other}")), "{why}");
        }
        let marker = DataFolder::peek(&cluster.data(0)).expect("readable").expect("a marker");
        assert_eq!(marker.epoch, 2, "a refused start changes nothing");
        start_in(&cluster, 2).await.expect("its own epoch").shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_another_epoch_is_refused() {
    within(async {
        // Its folder has no epoch, as those of earlier builds, but its state does.
        let mut cluster = Cluster::formed(1).await;
        cluster.stop(0).await;
        let why = refusal(start_in(&cluster, 3).await);
        assert!(why.contains("epoch 0") && why.contains("epoch 3"), "{why}");
        let marker = DataFolder::peek(&cluster.data(0)).expect("readable").expect("a marker");
        assert_eq!(marker.epoch, 0, "a refused start changes nothing");
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

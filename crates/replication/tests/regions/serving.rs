//! What the service for blobs refuses, and what it tells.

use atoll_proto::replication::v1::PingRequest;
use atoll_proto::replication::v1::blobs_client::BlobsClient;
use atoll_proto::replication::{BLOCK_BYTES, ClusterIdentity, FetchBlob};
use atoll_types::{ClusterId, Digest, ObjectName};
use tonic::Code;
use tonic::transport::Channel;

use crate::world::{Node, Setup, eventually, random_bytes, three};

async fn client(node: &Node) -> BlobsClient<Channel> {
    BlobsClient::connect(format!("http://{}", node.link.address)).await.unwrap()
}

async fn refusal(node: &Node, fetch: FetchBlob) -> Code {
    match client(node).await.fetch(atoll_proto::replication::v1::FetchRequest::from(fetch)).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_of_this_cluster_and_inside_a_copy_of_this_region() {
    let (group, nodes) = three(&Setup::default(), &["ap-south"]).await;
    let bytes = random_bytes(41, 300_000);
    let digest = nodes[0].push(&group, &bytes).await;
    let (node, cluster) = (&nodes[0], nodes[0].local.cluster);
    let good =
        FetchBlob { cluster, digest, object: node.copy(&digest), offset: BLOCK_BYTES, length: None, background: false };
    assert_eq!(refusal(node, good).await, Code::Ok);
    let other = ClusterIdentity { id: ClusterId::random(), ..cluster };
    let later = ClusterIdentity { epoch: cluster.epoch + 1, ..cluster };
    for (bad, code) in [
        (FetchBlob { cluster: other, ..good }, Code::FailedPrecondition),
        (FetchBlob { cluster: later, ..good }, Code::FailedPrecondition),
        (FetchBlob { digest: Digest::sha256(b"unknown"), ..good }, Code::NotFound),
        (FetchBlob { object: Some(ObjectName::random(0)), ..good }, Code::NotFound),
        (FetchBlob { offset: 2 * BLOCK_BYTES, ..good }, Code::OutOfRange),
        (FetchBlob { length: Some(BLOCK_BYTES), ..good }, Code::OutOfRange),
        (FetchBlob { offset: 1, ..good }, Code::InvalidArgument),
    ] {
        assert_eq!(refusal(node, bad).await, code, "{bad:?}");
    }
    assert_eq!(refusal(&nodes[2], FetchBlob { object: None, ..good }).await, Code::NotFound, "a region without a copy");
    let ping = client(node).await.ping(PingRequest { cluster: Some(other.into()) }).await;
    assert_eq!(ping.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_come_in_order_with_the_checksums_of_their_bytes() {
    let (group, nodes) = three(&Setup::default(), &[]).await;
    let bytes = random_bytes(42, 1_000_000);
    let digest = nodes[0].push(&group, &bytes).await;
    eventually("eu-west has it", || nodes[1].copy(&digest).is_some()).await;
    let fetch = FetchBlob {
        cluster: nodes[1].local.cluster,
        digest,
        object: None,
        offset: BLOCK_BYTES,
        length: None,
        background: false,
    };
    let mut blocks = client(&nodes[1])
        .await
        .fetch(atoll_proto::replication::v1::FetchRequest::from(fetch))
        .await
        .unwrap()
        .into_inner();
    let mut at = BLOCK_BYTES as usize;
    while let Some(block) = blocks.message().await.unwrap() {
        assert_eq!(block.offset as usize, at);
        assert!(block.data.len() as u64 <= BLOCK_BYTES && block.data == bytes[at..at + block.data.len()]);
        assert_eq!(block.xxh3, xxhash_rust::xxh3::xxh3_64(&block.data));
        at += block.data.len();
    }
    assert_eq!(at, bytes.len());
}

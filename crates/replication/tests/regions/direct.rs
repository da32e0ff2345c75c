//! Clients that are streamed to alone, since the spool has no room: what they hold, and what they leave to others.

use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::ByteStream;
use atoll_registry::{NoRoom, ReadThroughError};
use atoll_replication::FetcherOptions;
use atoll_types::Digest;
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout;

use crate::fetching::near;
use crate::group::Group;
use crate::impostor::Lie;
use crate::link::Weather;
use crate::reading::beside_an_impostor;
use crate::world::{DEADLINE, Node, Setup, eventually, pause, random_bytes, read_all, three};

const MIB: u64 = 1 << 20;

/// No spool but memory for small blobs.
fn spoolless() -> Setup {
    Setup { spool_bytes_max: 0, ..Setup::default() }
}

/// A blob in us-east alone.
async fn in_one_region(setup: &Setup, seed: u64, size: u64) -> (Arc<Group>, [Node; 3], Bytes, Digest) {
    let (group, nodes) = three(setup, &["eu-west", "ap-south"]).await;
    let bytes = random_bytes(seed, size as usize);
    let digest = nodes[0].push(&group, &bytes).await;
    (group, nodes, bytes, digest)
}

/// A client that took the first bytes of a blob and no more.
async fn stalled(node: &Node, digest: &Digest, size: u64) -> (Bytes, ByteStream) {
    let mut stream = node.replication.read_through().read(digest, 0..size).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    (first, stream)
}

async fn whole((first, rest): (Bytes, ByteStream)) -> (Vec<u8>, bool) {
    let (rest, ended_well) = read_all(rest).await;
    ([&first[..], &rest].concat(), ended_well)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_take_nothing_do_not_hold_up_other_pulls_from_the_same_node() {
    let size = 24 * MIB;
    let (group, nodes, bytes, digest) = in_one_region(&spoolless(), 51, size).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(stalled(&nodes[2], &digest, size).await);
    }
    let small = random_bytes(52, 200_000);
    let other = nodes[0].push(&group, &small).await;
    let read = nodes[2].read(&other, 0..small.len() as u64);
    let (got, ended_well) = timeout(Duration::from_secs(4), read).await.expect("the small blob has to wait");
    assert!(ended_well && got == small);
    let read = nodes[2].read(&digest, 0..size);
    let (got, ended_well) = timeout(DEADLINE, read).await.expect("another client of the large blob has to wait");
    assert!(ended_well && got == bytes);
    for client in clients {
        let (got, ended_well) = whole(client).await;
        assert!(ended_well && got == bytes, "{} bytes for a client that was slow", got.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_in_the_midst_of_a_pull_ends_the_spool_and_not_the_pull() {
    let size = 24 * MIB;
    let setup = Setup { read_ahead_bytes: MIB, bytes_per_ms: 20_000, ..Setup::default() };
    let (_group, nodes, bytes, digest) = in_one_region(&setup, 56, size).await;
    let (first, rest) = stalled(&nodes[2], &digest, size).await;
    let folder = std::path::PathBuf::from("/data");
    setup.room.set(Some(NoRoom { folder, free_bytes: 1, needed_bytes: 2 }));
    let (rest, ended_well) = read_all(rest).await;
    let got = [&first[..], &rest].concat();
    assert!(!ended_well && got.len() < bytes.len() && bytes.starts_with(&got), "{} bytes were spooled", got.len());
    eventually("the spool is given up", || nodes[2].replication.in_flight() == 0).await;
    let left = nodes[2].replication.read_through().read(&digest, got.len() as u64..size).await.unwrap();
    let (left, ended_well) = read_all(left).await;
    assert!(ended_well && [got, left].concat() == bytes, "the rest comes without a spool");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_gives_its_stream_to_others_and_goes_on_later() {
    let size = 6 * MIB + 5;
    let mut setup = Setup { park_after: Duration::from_millis(50), ..spoolless() };
    setup.peers.direct_streams_max = 1;
    let (_group, nodes, bytes, digest) = in_one_region(&setup, 53, size).await;
    let slow = stalled(&nodes[2], &digest, size).await;
    let ranged = nodes[2].replication.read_through().read(&digest, MIB + 7..size).await.unwrap();
    let (got, ended_well) = timeout(DEADLINE, nodes[2].read(&digest, 0..size)).await.expect("no stream is free");
    assert!(ended_well && got == bytes);
    let (got, ended_well) = read_all(ranged).await;
    assert!(ended_well && got == bytes[(MIB + 7) as usize..]);
    let (got, ended_well) = whole(slow).await;
    assert!(ended_well && got == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_the_midst_of_a_body_waits_for_a_stream_where_a_new_one_is_refused() {
    let size = 6 * MIB;
    let mut setup = Setup { stream_wait: Duration::from_millis(50), ..spoolless() };
    setup.peers.direct_streams_max = 1;
    let (_group, nodes, bytes, digest) = in_one_region(&setup, 57, size).await;
    let slow = stalled(&nodes[2], &digest, size).await;
    let read_through = nodes[2].replication.read_through();
    let going_on = tokio::spawn({
        let read_through = read_through.clone();
        async move { read_through.go_on(&digest, 2 * MIB..size).await }
    });
    for _ in 0..3 {
        let refused = read_through.read(&digest, 0..size).await;
        assert!(matches!(refused, Err(ReadThroughError::Busy)), "all streams are taken");
    }
    assert!(!going_on.is_finished(), "it was cut like one that has nothing yet");
    drop(slow);
    let rest = timeout(DEADLINE, going_on).await.expect("it gets the stream that became free").unwrap();
    let (got, ended_well) = read_all(rest.expect("a stream")).await;
    assert!(ended_well && got == bytes[2 * MIB as usize..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_its_stream_back_at_once() {
    let size = 6 * MIB;
    let mut setup = spoolless();
    setup.peers.direct_streams_max = 1;
    let (_group, nodes, bytes, digest) = in_one_region(&setup, 54, size).await;
    for _ in 0..3 {
        drop(stalled(&nodes[2], &digest, size).await);
    }
    let (got, ended_well) = nodes[2].read(&digest, 0..size).await;
    assert!(ended_well && got == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_wrong_bytes_is_asked_last_from_then_on() {
    // One block: noticed before the client has anything. More: the first client's body is torn, the next one's is not.
    for (size, unnoticed) in [(100_000, true), (MIB, false)] {
        let (node, bytes, digest, stop) = beside_an_impostor(Lie::OtherBytes, size, 0).await;
        let honest = Node::start(&node.group, 9, "us-east", &Setup::default(), None).await;
        honest.push(&node.group, &bytes).await;
        if !unnoticed {
            let (got, ended_well) = node.read(&digest, 0..size).await;
            assert!(!ended_well && (got.len() as u64) < size, "wrong bytes were completed");
        }
        let (got, ended_well) = node.read(&digest, 0..size).await;
        assert!(ended_well && got == bytes, "{size} bytes");
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_blobs_than_are_shared_at_once_are_served_all_the_same() {
    let setup = Setup { blobs_max: 2, linger: DEADLINE * 10, ..Setup::default() };
    let (group, nodes, _, _) = in_one_region(&setup, 55, 1).await;
    nodes[2].view.cut_off(true);
    for i in 0..5 {
        let bytes = random_bytes(60 + i, 300_000);
        let digest = nodes[0].push(&group, &bytes).await;
        let (got, ended_well) = nodes[2].read(&digest, 0..bytes.len() as u64).await;
        assert!(ended_well && got == bytes, "blob {i}");
        eventually("idle ones make room", || nodes[2].replication.in_flight() <= 2).await;
    }
    // Two that are being read make no room: the third one is streamed alone.
    let (large, mut busy) = (random_bytes(70, 20 << 20), Vec::new());
    for i in 0..3 {
        let bytes = large.slice(i..);
        let digest = nodes[0].push(&group, &bytes).await;
        busy.push((stalled(&nodes[2], &digest, bytes.len() as u64).await, bytes));
    }
    assert_eq!(nodes[2].replication.in_flight(), 2);
    for (client, bytes) in busy {
        let (got, ended_well) = whole(client).await;
        assert!(ended_well && got == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_hangs_does_not_hold_up_what_a_client_comes_to() {
    let fetcher = FetcherOptions { concurrency: 1, ..Setup::default().fetcher };
    let mut setup = Setup { fetcher, streams_max: 2, peers: near(&["eu-west"]), ..Setup::default() };
    setup.peers.answer_timeout = DEADLINE * 10;
    let (group, nodes) = three(&setup, &["eu-west", "ap-south"]).await;
    let (hanging, wanted) = (random_bytes(71, 8 << 20), random_bytes(72, 16 << 20));
    nodes[0].push(&group, &hanging).await;
    let digest = nodes[1].push(&group, &wanted).await;
    nodes[0].link.set(Weather::Silent);
    pause(&nodes[1], "ap-south", false).await;
    eventually("the fetcher waits for a node that is silent", || nodes[2].replication.in_flight() > 0).await;
    let read = nodes[2].read(&digest, 0..wanted.len() as u64);
    let (got, ended_well) = timeout(Duration::from_secs(10), read).await.expect("the client waits for the fetcher");
    assert!(ended_well && got == wanted);
}

//! A blob that is elsewhere, read as if it were here.

use std::time::Duration;

use atoll_metadata::Command;
use atoll_registry::{ReadThroughError, Spares};
use atoll_types::{Digest, StoreId};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fetching::{near, spare};
use crate::group::Group;
use crate::impostor::{Impostor, Lie};
use crate::link::Weather;
use crate::world::{Node, Setup, eventually, random_bytes, read_all, region_id, register, serve, three};

const MIB: u64 = 1 << 20;

/// Pushed at us-east, in eu-west too, not in ap-south, which is paused.
pub(crate) async fn elsewhere(
    setup: &Setup,
    seed: u64,
    size: u64,
) -> (std::sync::Arc<Group>, [Node; 3], Bytes, Digest) {
    let (group, nodes) = three(setup, &["ap-south"]).await;
    let bytes = random_bytes(seed, size as usize);
    let digest = nodes[0].push(&group, &bytes).await;
    eventually("eu-west has it", || nodes[1].copy(&digest).is_some()).await;
    (group, nodes, bytes, digest)
}

fn crossed(nodes: &[Node; 3]) -> u64 {
    nodes[0].link.crossed() + nodes[1].link.crossed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_whole_pulls_and_ranges_cross_once_and_the_blob_is_kept() {
    let size = 40 * MIB;
    let (_group, nodes, bytes, digest) = elsewhere(&Setup::default(), 21, size).await;
    let before = crossed(&nodes);
    let whole = (0..8).map(|_| 0..size);
    let ranges = [(3 * MIB + 5, 2 * MIB), (39 * MIB, MIB), (20 * MIB - 1, 2), (0, 1), (30 * MIB, 262_144)];
    let ranges: Vec<_> = whole.chain(ranges.map(|(from, n)| from..from + n)).collect();
    let read = join_all(ranges.iter().map(|r| nodes[2].read(&digest, r.clone()))).await;
    for ((got, ended_well), range) in read.into_iter().zip(&ranges) {
        assert!(ended_well && got == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    let used = (crossed(&nodes) - before) as f64 / size as f64;
    assert!((0.99..=1.05).contains(&used), "it crossed {used} times");
    eventually("it is kept", || nodes[2].copy(&digest).is_some()).await;
    assert!(nodes[2].stored(&digest, size as usize).await == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_has_no_room_for_is_read_and_not_kept() {
    let setup = Setup::default();
    let (_group, nodes, bytes, digest) = elsewhere(&setup, 26, 3 * MIB).await;
    for (data, store, one_disk) in [(30 * MIB, 2 * MIB, false), (5 * MIB, 5 * MIB, true)] {
        setup.room.set_spares(Spares { data: spare(data), store: spare(store), one_disk });
        let (got, ended_well) = nodes[2].read(&digest, 0..3 * MIB).await;
        assert!(ended_well && got == bytes, "{data} and {store} to spare");
        eventually("it is let go", || nodes[2].replication.in_flight() == 0).await;
        assert!(nodes[2].copy(&digest).is_none() && nodes[2].objects().await == 0, "{data} and {store} to spare");
    }
    setup.room.set_spares(Spares { data: spare(6 * MIB), store: spare(6 * MIB), one_disk: true });
    assert!(nodes[2].read(&digest, 0..3 * MIB).await.1);
    eventually("it is kept where it fits", || nodes[2].copy(&digest).is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_comes_without_the_rest() {
    let size = 40 * MIB;
    let (_group, nodes, bytes, digest) = elsewhere(&Setup::default(), 22, size).await;
    let before = crossed(&nodes);
    let (got, ended_well) = nodes[2].read(&digest, size - MIB..size).await;
    assert!(ended_well && got == bytes[(size - MIB) as usize..]);
    let used = crossed(&nodes) - before;
    assert!(used < 2 * MIB, "{used} bytes crossed for one MiB");
    eventually("nobody wants the rest", || nodes[2].replication.in_flight() == 0).await;
    assert!(nodes[2].copy(&digest).is_none() && nodes[2].objects().await == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_far_ahead_does_not_wait_for_a_slow_whole_pull() {
    let size = 40 * MIB;
    let setup = Setup { bytes_per_ms: 2_000, ..Setup::default() };
    let (_group, nodes, bytes, digest) = elsewhere(&setup, 23, size).await;
    let whole = nodes[2].replication.read_through().read(&digest, 0..size).await.unwrap();
    let (at, start, before) = (30 * MIB, Instant::now(), crossed(&nodes));
    let (got, ended_well) = nodes[2].read(&digest, at..at + 1_000).await;
    assert!(ended_well && got == bytes[at as usize..][..1_000]);
    let used = crossed(&nodes) - before;
    assert!(used < 16 * MIB, "{used} bytes crossed and {:?} passed first", start.elapsed());
    drop(whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_in_the_middle_is_not_noticed() {
    for weather in [Weather::Cut, Weather::Silent] {
        let size = 32 * MIB;
        let mut setup = Setup { bytes_per_ms: 20_000, ..Setup::default() };
        setup.peers.stall_timeout = Duration::from_secs(1);
        let (_group, nodes, bytes, digest) = elsewhere(&setup, 24, size).await;
        let before = [nodes[0].link.crossed(), nodes[1].link.crossed()];
        let from = |i: usize| nodes[i].link.crossed() - before[i];
        let readers = join_all((0..8).map(|_| nodes[2].read(&digest, 0..size)));
        let death = async {
            eventually("a tenth has come", || from(0) + from(1) > size / 10).await;
            let source = if from(0) > from(1) { 0 } else { 1 };
            let at = from(0) + from(1);
            nodes[source].link.set(weather);
            at
        };
        let (read, at) = tokio::join!(readers, death);
        assert!(at < size * 95 / 100, "it was caught in the middle");
        for (got, ended_well) in read {
            assert!(ended_well && got == bytes, "{weather:?} at {at}: {} bytes", got.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_without_a_quorum_and_is_not_kept() {
    let size = 3 * MIB + 1;
    let (_group, nodes, bytes, digest) = elsewhere(&Setup::default(), 25, size).await;
    nodes[2].view.cut_off(true);
    let (got, ended_well) = nodes[2].read(&digest, 0..size).await;
    assert!(ended_well && got == bytes);
    eventually("it is let go", || nodes[2].replication.in_flight() == 0).await;
    assert!(nodes[2].copy(&digest).is_none() && nodes[2].objects().await == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_source_the_answer_comes_at_once_and_names_the_regions() {
    for weather in [Weather::Cut, Weather::Silent] {
        let (_group, nodes, _, digest) = elsewhere(&Setup::default(), 26, MIB).await;
        nodes[0].link.set(weather);
        nodes[1].link.set(weather);
        let start = Instant::now();
        let answer = nodes[2].replication.read_through().read(&digest, 0..MIB).await;
        let Err(ReadThroughError::Unreachable(regions)) = answer else { panic!("{weather:?}: an answer") };
        assert!(start.elapsed() < Duration::from_secs(4), "{weather:?}: {:?}", start.elapsed());
        assert_eq!(regions, [region_id("eu-west"), region_id("us-east")], "{weather:?}");
        nodes[1].link.set(Weather::Fair);
        let (got, ended_well) = nodes[2].read(&digest, 0..MIB).await;
        assert!(ended_well && got.len() as u64 == MIB, "{weather:?}: healed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_silent_source_does_not_hold_a_reader_up() {
    let setup = Setup { peers: near(&["us-east"]), ..Setup::default() };
    let (_group, nodes, bytes, digest) = elsewhere(&setup, 27, MIB).await;
    nodes[0].link.set(Weather::Silent);
    let start = Instant::now();
    let (got, ended_well) = nodes[2].read(&digest, 0..MIB).await;
    assert!(ended_well && got == bytes);
    assert!(start.elapsed() < Duration::from_millis(1_400), "the next one is asked meanwhile: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_do_not_end_it_for_others_and_the_last_one_does() {
    let size = 24 * MIB;
    let setup = Setup { bytes_per_ms: 20_000, read_ahead_bytes: 2 * MIB, ..Setup::default() };
    let (_group, nodes, bytes, digest) = elsewhere(&setup, 28, size).await;
    nodes[2].view.cut_off(true);
    let reads = nodes[2].replication.read_through();
    let mut leaving = reads.read(&digest, 0..size).await.unwrap();
    let staying = reads.read(&digest, 0..size).await.unwrap();
    leaving.next().await.unwrap().unwrap();
    drop(leaving);
    let (got, ended_well) = read_all(staying).await;
    assert!(ended_well && got == bytes);
    eventually("it is let go", || nodes[2].replication.in_flight() == 0).await;

    let before = crossed(&nodes);
    let mut last = reads.read(&digest, 0..size).await.unwrap();
    last.next().await.unwrap().unwrap();
    eventually("it reads ahead", || crossed(&nodes) - before >= MIB).await;
    drop(last);
    eventually("it ends with the last client", || nodes[2].replication.in_flight() == 0).await;
    let used = crossed(&nodes) - before;
    assert!(used < size / 2, "{used} bytes crossed for a client that left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_holds_the_link_back() {
    let size = 64 * MIB;
    let (_group, nodes, bytes, digest) =
        elsewhere(&Setup { read_ahead_bytes: 4 * MIB, ..Setup::default() }, 29, size).await;
    nodes[2].view.cut_off(true);
    let before = crossed(&nodes);
    let mut slow = nodes[2].replication.read_through().read(&digest, 0..size).await.unwrap();
    let (mut got, mut worst) = (Vec::new(), 0);
    while let Some(piece) = slow.next().await {
        got.extend_from_slice(&piece.unwrap());
        if got.len().is_multiple_of(4 << 20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        worst = worst.max((crossed(&nodes) - before).saturating_sub(got.len() as u64));
    }
    assert!(got == bytes);
    assert!(worst <= 6 * MIB, "{worst} bytes ahead of the client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_larger_than_the_spool_is_streamed_all_the_same() {
    let size = 5 * MIB + 3;
    let (_group, nodes, bytes, digest) = elsewhere(&Setup { spool_bytes_max: MIB, ..Setup::default() }, 30, size).await;
    for range in [0..size, MIB - 1..3 * MIB + 1, size - 1..size, 0..1] {
        let (got, ended_well) = nodes[2].read(&digest, range.clone()).await;
        assert!(ended_well && got == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_is_gone_and_a_range_that_is_not_there() {
    let size = 2 * MIB;
    let (_group, nodes, bytes, digest) = elsewhere(&Setup::default(), 32, size).await;
    nodes[2].lose_spool();
    let (got, ended_well) = nodes[2].read(&digest, 0..size).await;
    assert!(ended_well && got == bytes);
    let (got, ended_well) = nodes[2].read(&digest, 5..5).await;
    assert!(ended_well && got.is_empty());
    assert!(nodes[2].replication.read_through().read(&digest, 0..size + 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_wrong_is_ever_delivered_as_a_whole_and_no_corrupt_block_at_all() {
    for lie in [Lie::FlippedBit, Lie::Shifted, Lie::OtherBytes] {
        for spool_bytes_max in [1 << 30, 0] {
            let (node, bytes, digest, stop) = beside_an_impostor(lie, 3 * MIB + 7, spool_bytes_max).await;
            let size = bytes.len() as u64;
            let answer = node.replication.read_through().read(&digest, 0..size).await;
            let (got, ended_well) = match answer {
                Ok(stream) => read_all(stream).await,
                Err(_) => (Vec::new(), false),
            };
            assert!(!ended_well, "{lie:?}: it was completed");
            assert!(got.len() < bytes.len());
            if lie != Lie::OtherBytes {
                assert!(bytes.starts_with(&got), "{lie:?}: a corrupt block came through");
            }
            assert!(node.copy(&digest).is_none(), "{lie:?}: it was kept");
            stop.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_blob_of_a_wrong_digest_comes_from_another_source_unnoticed() {
    let (node, bytes, digest, stop) = beside_an_impostor(Lie::OtherBytes, 100_000, 1 << 30).await;
    let honest = Node::start(&node.group, 9, "us-east", &Setup::default(), None).await;
    honest.push(&node.group, &bytes).await;
    let (got, ended_well) = node.read(&digest, 0..bytes.len() as u64).await;
    assert!(ended_well && got == bytes);
    stop.cancel();
}

/// A node, and its group.
pub(crate) struct Beside {
    node: Node,
    pub(crate) group: std::sync::Arc<Group>,
}

impl std::ops::Deref for Beside {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// A node of ap-south, paused, and a blob that only an impostor in eu-west claims to have.
pub(crate) async fn beside_an_impostor(
    lie: Lie,
    size: u64,
    spool_bytes_max: u64,
) -> (Beside, Bytes, Digest, CancellationToken) {
    let (group, bytes, stop) = (Group::new(), random_bytes(31, size as usize), CancellationToken::new());
    let address = serve(Impostor::service(bytes.clone(), lie), stop.clone()).await;
    let (liar, store, digest) = (region_id("eu-west"), StoreId::random(), Digest::sha256(&bytes));
    register(&group, 2, &liar, store, address);
    let source =
        atoll_metadata::BlobSource::Uploaded { region: liar, store, object: atoll_types::ObjectName::random(0) };
    let repository = "test/r".parse().unwrap();
    group.must(Command::LinkBlob { repository, digest, size, source });
    let memory_bytes_max = spool_bytes_max.min(32 << 20);
    let setup = Setup { peers: near(&["eu-west"]), spool_bytes_max, memory_bytes_max, ..Setup::default() };
    let setup =
        Setup { fetcher: atoll_replication::FetcherOptions { concurrency: 0, ..setup.fetcher.clone() }, ..setup };
    let node = Node::start(&group, 3, "ap-south", &setup, None).await;
    (Beside { node, group }, bytes, digest, stop)
}

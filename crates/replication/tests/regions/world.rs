//! Regions of one node each (or more), and what tests do with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::{BlobStore, CheckedReader, FsOptions, FsStore, VerifyingWriter};
use atoll_metadata::read::{self, Lag};
use atoll_metadata::{BlobSource, Command, NodeRole, RegisterNode};
use atoll_proto::replication::ClusterIdentity;
use atoll_registry::{MetadataGroup, MetadataGroupExt, Room};
use atoll_replication::{BlobServer, FetcherOptions, LocalNode, Parts, PeerOptions, ReadThroughOptions, Replication};
use atoll_telemetry::Metrics;
use atoll_types::{Algorithm, Digest, NodeId, ObjectName, RegionId, StoreId};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::group::{Group, NodeView};
use crate::link::Link;

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Bytes that a seed decides.
pub(crate) fn random_bytes(seed: u64, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    rand::rngs::StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes.into()
}

pub(crate) fn region_id(name: &str) -> RegionId {
    name.parse().unwrap()
}

/// How a node is started.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) bytes_per_ms: u64,
    pub(crate) peers: PeerOptions,
    pub(crate) fetcher: FetcherOptions,
    pub(crate) linger: Duration,
    pub(crate) spool_bytes_max: u64,
    pub(crate) memory_bytes_max: u64,
    pub(crate) read_ahead_bytes: u64,
    pub(crate) blobs_max: usize,
    pub(crate) streams_max: usize,
    pub(crate) park_after: Duration,
    pub(crate) stream_wait: Duration,
    pub(crate) room: Room,
}

impl Default for Setup {
    fn default() -> Self {
        let fetcher = FetcherOptions {
            lease_ttl: Duration::from_secs(2),
            tick: Duration::from_millis(100),
            ..Default::default()
        };
        let linger = Duration::from_millis(50);
        Self {
            bytes_per_ms: 0,
            peers: PeerOptions::default(),
            fetcher,
            linger,
            spool_bytes_max: 1 << 30,
            memory_bytes_max: 32 << 20,
            read_ahead_bytes: 8 << 20,
            blobs_max: 256,
            streams_max: 32,
            park_after: Duration::from_secs(10),
            stream_wait: Duration::from_secs(15),
            room: Room::default(),
        }
    }
}

pub(crate) struct Node {
    pub(crate) local: LocalNode,
    pub(crate) view: Arc<NodeView>,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) link: Link,
    pub(crate) replication: Replication,
    pub(crate) metrics: Arc<Metrics>,
    stop: CancellationToken,
    folder: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server for blobs on a free port.
pub(crate) async fn serve<S>(service: S, stop: CancellationToken) -> SocketAddr
where
    S: tonic::codegen::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(service);
    let serving = server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
    tokio::spawn(serving);
    address
}

impl Node {
    /// A node of a region; it shares the store of `beside`, if given.
    pub(crate) async fn start(
        group: &Arc<Group>,
        number: u64,
        region: &str,
        setup: &Setup,
        beside: Option<&Node>,
    ) -> Self {
        let (folder, region, view) = (tempfile::tempdir().unwrap(), region_id(region), group.node(NodeId(number)));
        let (store, store_id) = match beside {
            Some(other) => (other.store.clone(), other.local.store),
            None => {
                let store: Arc<dyn BlobStore> =
                    Arc::new(FsStore::open(folder.path().join("blobs"), FsOptions::default()).unwrap());
                let id = store.identify(group.cluster).await.unwrap();
                (store, id)
            }
        };
        let cluster = ClusterIdentity { id: group.cluster, epoch: 1 };
        let local = LocalNode { node: NodeId(number), region: region.clone(), store: store_id, cluster };
        let stop = CancellationToken::new();
        let reader = Arc::new(CheckedReader::new(store.clone(), 1 << 20));
        let blobs = BlobServer::new(local.clone(), view.clone(), reader, BlobServer::STREAMS_MAX, stop.clone());
        let link = Link::new(serve(blobs.into_service(), stop.clone()).await, setup.bytes_per_ms).await;
        register(group, number, &region, store_id, link.address);
        let metrics = Arc::new(Metrics::new());
        let mut read_through = ReadThroughOptions::new(folder.path().join("spool"));
        read_through.linger = setup.linger;
        read_through.spool_bytes_max = setup.spool_bytes_max;
        read_through.memory_bytes_max = setup.memory_bytes_max;
        read_through.read_ahead_bytes = setup.read_ahead_bytes;
        read_through.blobs_max = setup.blobs_max;
        read_through.streams_max = setup.streams_max;
        read_through.park_after = setup.park_after;
        read_through.stream_wait = setup.stream_wait;
        read_through.room = setup.room.clone();
        let parts = Parts {
            local: local.clone(),
            metadata: view.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
            peers: setup.peers.clone(),
            read_through,
            fetcher: setup.fetcher.clone(),
        };
        let replication = Replication::start(parts).unwrap();
        Self { local, view, store, link, replication, metrics, stop, folder }
    }

    /// Uploads a blob here and links it.
    pub(crate) async fn push(&self, group: &Group, bytes: &Bytes) -> Digest {
        let digest = Digest::sha256(bytes);
        let object = self.put(bytes, &digest).await;
        let source = BlobSource::Uploaded { region: self.local.region.clone(), store: self.local.store, object };
        let repository = "test/r".parse().unwrap();
        group.must(Command::LinkBlob { repository, digest, size: bytes.len() as u64, source });
        digest
    }

    async fn put(&self, bytes: &Bytes, digest: &Digest) -> ObjectName {
        let mut writer = VerifyingWriter::create(&self.store, ObjectName::random(0), Algorithm::Sha256).await.unwrap();
        writer.write(bytes.clone()).await.unwrap();
        writer.finish(digest).await.unwrap().object
    }

    /// Where the region's copy is.
    pub(crate) fn copy(&self, digest: &Digest) -> Option<ObjectName> {
        let blob = self.view.read(|kv| read::blob(kv, digest)).unwrap()?;
        blob.copies.into_iter().find(|(r, _)| *r == self.local.region).map(|(_, object)| object)
    }

    /// The blob's record, as reads show it.
    pub(crate) fn blob(&self, digest: &Digest) -> read::Blob {
        self.view.read(|kv| read::blob(kv, digest)).unwrap().expect("the blob is linked")
    }

    pub(crate) fn lag(&self) -> Lag {
        self.view.read(|kv| read::lag(kv, &self.local.region)).unwrap()
    }

    /// The bytes of the region's copy, checked.
    pub(crate) async fn stored(&self, digest: &Digest, size: usize) -> Vec<u8> {
        let reader = CheckedReader::new(self.store.clone(), 1 << 20);
        let object = self.copy(digest).expect("the region has no copy");
        let bytes = reader.read(&object, digest, size as u64, 0..size as u64).await.unwrap();
        bytes
            .try_fold(Vec::new(), |mut all, piece| async move {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
            .unwrap()
    }

    /// How many objects the store has.
    pub(crate) async fn objects(&self) -> usize {
        self.store.list(None, 10_000).await.unwrap().len()
    }

    /// Reads through; the bytes until the end or an error, and whether it ended well.
    pub(crate) async fn read(&self, digest: &Digest, range: std::ops::Range<u64>) -> (Vec<u8>, bool) {
        read_all(self.replication.read_through().read(digest, range).await.unwrap()).await
    }

    /// Takes the spool folder away.
    pub(crate) fn lose_spool(&self) {
        std::fs::remove_dir(self.folder.path().join("spool")).unwrap();
    }

    /// Names of files in the node's spool folder.
    pub(crate) fn spooled(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("spool")).unwrap().count()
    }
}

pub(crate) async fn read_all(mut bytes: atoll_blobstore::ByteStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while let Some(piece) = bytes.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(_) => return (all, false),
        }
    }
    (all, true)
}

/// Registers a region, its store and a node of it.
pub(crate) fn register(group: &Arc<Group>, number: u64, region: &RegionId, store: StoreId, address: SocketAddr) {
    group.must(Command::RegisterRegion { region: region.clone() });
    let known = group.node(NodeId(0)).read(|kv| read::region(kv, region)).unwrap();
    if known.is_some_and(|r| r.store.is_none()) {
        group.must(Command::SetStore { region: region.clone(), store, replaces: None });
    }
    group.must(Command::RegisterNode(Box::new(RegisterNode {
        node: NodeId(number),
        name: format!("{region}-{number}").parse().unwrap(),
        region: region.clone(),
        role: NodeRole::Voter,
        grpc_address: address.to_string(),
        http_address: String::from("127.0.0.1:1"),
        admin_address: String::from("127.0.0.1:2"),
        store: Some(store),
        store_kind: String::from("fs"),
        feature_level: 1,
        incarnation: None,
    })));
}

/// Three regions, and which are paused from the start.
pub(crate) async fn three(setup: &Setup, paused: &[&str]) -> (Arc<Group>, [Node; 3]) {
    let group = Group::new();
    let nodes = [
        Node::start(&group, 1, "us-east", setup, None).await,
        Node::start(&group, 2, "eu-west", setup, None).await,
        Node::start(&group, 3, "ap-south", setup, None).await,
    ];
    for region in paused {
        pause(&nodes[0], region, true).await;
    }
    (group, nodes)
}

pub(crate) async fn pause(node: &Node, region: &str, paused: bool) {
    let metadata: &dyn MetadataGroup = &*node.view;
    let done = match paused {
        true => atoll_replication::pause(metadata, region_id(region), DEADLINE).await,
        false => atoll_replication::resume(metadata, region_id(region), DEADLINE).await,
    };
    done.unwrap();
}

//! Nodes of a registry in one process, with real sockets between them and the tests.

#![allow(dead_code)] // each test uses its own part

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_auth::OpenAuthorizer;
use atoll_blobstore::{BlobStore, MemoryStore};
use atoll_http::{App, Health, HttpConfig, PeerDirectory, Readiness, RequestLimits, ServerLimits, router, serve};
use atoll_registry::{Registry, RegistryConfig};
use atoll_telemetry::Metrics;
use atoll_testkit::{LocalGroup, LocalNode, OtherRegions};
use atoll_types::{Digest, NodeId, RegionId, StoreId};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

/// Addresses that are known once all listeners are bound.
#[derive(Clone, Default)]
pub(crate) struct Peers(pub(crate) Vec<(NodeId, String)>);

impl PeerDirectory for Peers {
    fn http_address(&self, node: NodeId) -> Option<String> {
        self.0.iter().find(|(id, _)| *id == node).map(|(_, address)| address.clone())
    }
}

/// Panics when it is not sound.
struct Fit(bool);

impl Health for Fit {
    fn ready(&self) -> Readiness {
        assert!(self.0, "a bug in the check");
        Readiness { pulls: Ok(()), pushes: Err("no quorum is in reach".to_owned()) }
    }
}

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    client: Client<HttpConnector, Body>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

pub(crate) fn config(node: u64) -> HttpConfig {
    let (server_names, limits) = (vec!["registry.example".to_owned()], RequestLimits::default());
    HttpConfig { region: "us-east".parse().unwrap(), node: NodeId(node), server_names, limits }
}

/// The parts of a node, put together.
pub(crate) fn app(config: HttpConfig, registry: Arc<Registry>, peers: Peers) -> Arc<App> {
    App::new(config, registry, Arc::new(OpenAuthorizer), Arc::new(peers), Arc::new(Fit(true)), Arc::default())
}

/// A node with a bug: its readiness panics.
pub(crate) fn buggy_app(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Arc<App> {
    let peers = Arc::new(Peers::default());
    App::new(config(1), registry, Arc::new(OpenAuthorizer), peers, Arc::new(Fit(false)), metrics)
}

/// A node that serves a registry on a listener.
pub(crate) fn serve_on(listener: TcpListener, config: HttpConfig, registry: Arc<Registry>, peers: Peers) -> Node {
    serve_limited(listener, config, registry, peers, ServerLimits::default())
}

/// The same with other bounds of connections.
pub(crate) fn serve_limited(
    listener: TcpListener,
    config: HttpConfig,
    registry: Arc<Registry>,
    peers: Peers,
    limits: ServerLimits,
) -> Node {
    let address = listener.local_addr().unwrap();
    let app = app(config, registry.clone(), peers);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(vec![listener], router(app), limits, shutdown.clone()));
    Node { address, registry, client: Client::builder(TokioExecutor::new()).build_http(), shutdown, task }
}

pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error, which must have a message too.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty(), "{body}");
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

impl Node {
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        for (name, value) in headers {
            request
                .headers_mut()
                .append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let answer = tokio::time::timeout(DEADLINE, self.client.request(request)).await.expect("an answer").unwrap();
        let (parts, body) = answer.into_parts();
        let answer =
            Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() };
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0", "{method} {path}");
        assert!(answer.headers.contains_key("atoll-staleness-ms"), "{method} {path}");
        assert!(!answer.headers.contains_key("content-encoding"), "{method} {path}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], Body::empty()).await
    }

    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.call("POST", &path, &[OCTETS], bytes.to_vec()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        digest
    }

    /// Opens a session; where it is.
    pub(crate) async fn open_session(&self, name: &str) -> String {
        let answer = self.call("POST", &format!("/v2/{name}/blobs/uploads/"), &[], Body::empty()).await;
        assert_eq!(answer.status, 202);
        answer.header("location").to_owned()
    }

    /// An image of one layer, pushed.
    pub(crate) async fn push_image(&self, name: &str, reference: &str, layer: &[u8]) -> Image {
        let config = self.push_blob(name, b"{}").await;
        let blob = self.push_blob(name, layer).await;
        let manifest = manifest(&config, 2, &blob, layer.len());
        let path = format!("/v2/{name}/manifests/{reference}");
        let answer = self.call("PUT", &path, &[("content-type", MANIFEST)], manifest.clone()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        Image { layer: blob, digest: Digest::sha256(manifest.as_bytes()), manifest }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        tokio::time::timeout(DEADLINE, self.task).await.expect("the server ends").unwrap();
    }
}

pub(crate) struct Image {
    pub(crate) layer: Digest,
    pub(crate) digest: Digest,
    pub(crate) manifest: String,
}

pub(crate) fn manifest(config: &Digest, config_size: usize, layer: &Digest, layer_size: usize) -> String {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(), "size": layer_size }],
    })
    .to_string()
}

/// A node of its own.
pub(crate) async fn node() -> Node {
    serve_on(listen().await, config(1), registry(1), Peers::default())
}

/// What the nodes of a region share: the group, the object store, and another region.
pub(crate) struct Region {
    pub(crate) group: Arc<LocalGroup>,
    pub(crate) elsewhere: Arc<OtherRegions>,
    region: RegionId,
    store: StoreId,
    blobs: Arc<MemoryStore>,
    distant: (RegionId, StoreId, Arc<MemoryStore>),
}

impl Region {
    pub(crate) fn new() -> Self {
        let (region, store): (RegionId, _) = ("us-east".parse().unwrap(), StoreId::random());
        let distant = ("eu-west".parse::<RegionId>().unwrap(), StoreId::random(), Arc::new(MemoryStore::new(1 << 30)));
        let group = LocalGroup::new().unwrap();
        group.add_region(&region, store).unwrap();
        group.add_region(&distant.0, distant.1).unwrap();
        let stores: [(RegionId, Arc<dyn BlobStore>); 1] = [(distant.0.clone(), distant.2.clone())];
        let elsewhere = OtherRegions::new(group.clone(), stores);
        Self { group, elsewhere, region, store, blobs: Arc::new(MemoryStore::new(1 << 30)), distant }
    }

    /// One of its nodes: the registry, and the group as it sees it.
    pub(crate) fn node(&self, node: u64) -> (Arc<Registry>, Arc<LocalNode>) {
        let (config, seen) =
            (RegistryConfig::new(self.region.clone(), NodeId(node), self.store), self.group.node(NodeId(node)));
        (Arc::new(Registry::new(config, seen.clone(), self.blobs.clone(), self.elsewhere.clone())), seen)
    }

    pub(crate) fn registry(&self, node: u64) -> Arc<Registry> {
        self.node(node).0
    }

    /// The registry of a node of the other region.
    pub(crate) fn distant_registry(&self, node: u64) -> Arc<Registry> {
        let (region, store, blobs) = self.distant.clone();
        let config = RegistryConfig::new(region, NodeId(node), store);
        let nowhere = OtherRegions::new(self.group.clone(), []);
        Arc::new(Registry::new(config, self.group.node(NodeId(node)), blobs, nowhere))
    }
}

/// A registry of one node over the real state machine and an object store of its own.
pub(crate) fn registry(node: u64) -> Arc<Registry> {
    Region::new().registry(node)
}

//! A node's parts: made in order, watched together, ended in the opposite order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use atoll_admin::AdminService;
use atoll_auth::OpenAuthorizer;
use atoll_blobstore::{BlobStore, CheckedReader, FsOptions, FsStore, S3Store};
use atoll_consensus::Group;
use atoll_http::{App, HttpConfig, RequestLimits, ServerLimits};
use atoll_metadata::{NodeRole, RegisterNode, read};
use atoll_proto::replication::ClusterIdentity;
use atoll_registry::{Consistency, MetadataGroup, Registry, RegistryConfig, Room};
use atoll_replication::{BlobServer, FetcherOptions, LocalNode, Parts, PeerOptions, ReadThroughOptions, Replication};
use atoll_telemetry::Metrics;
use atoll_types::StoreId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::disk::{self, Disks};
use super::gauges::NodeGauges;
use super::group::{self, GroupAdapter};
use super::health::{NodeHealth, StoreHealth};
use super::listeners::Listeners;
use super::peers::{ClusterNodes, Directory};
use super::registration::{Registered, register};
use super::{lost_folder, servers, signals};
use crate::config::{NodeConfig, Role, StoreSection, TagReads};

/// How often the object store is probed.
const STORE_PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Block checksums that are kept in memory, for clients and for peers each, in bytes.
const CHECKSUM_CACHE_BYTES: u64 = 8 << 20;

/// A running node.
pub(crate) struct Node {
    group: Group,
    registry: Arc<Registry>,
    replication: Arc<Replication>,
    app: Arc<App>,
    registered: watch::Receiver<Registered>,
    fatal: mpsc::Receiver<String>,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Ends what clients see.
    stop_clients: CancellationToken,
    /// Ends what peers and operators see.
    stop_peers: CancellationToken,
}

impl Node {
    /// Makes the parts, in an order in which each finds what it needs.
    pub(crate) async fn start(config: NodeConfig) -> anyhow::Result<Self> {
        sweep_store(&config).await?;
        let disks = Disks::open(&config)?;
        let listeners = Listeners::bind(&config.listen).await?;
        let (fatal_tell, fatal) = mpsc::channel(1);
        let group = group::start(&config, fatal_tell.clone()).await?;
        lost_folder::refuse(&config, &group).await?;
        let metadata: Arc<dyn MetadataGroup> = Arc::new(GroupAdapter(group.clone()));
        let (store, store_id) = open_store(&config).await?;
        let metrics = Arc::new(Metrics::new());
        metrics.watch(Arc::new(NodeGauges::new(metadata.clone(), group.clone(), disks.clone())));

        let local = local_node(&config, store_id);
        let replication = Replication::start(Parts {
            local: local.clone(),
            metadata: metadata.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
            peers: peer_options(&config),
            read_through: read_through_options(&config, disks.room()),
            fetcher: FetcherOptions { concurrency: config.replication.concurrency, ..FetcherOptions::default() },
        });
        let replication = Arc::new(replication.context("starting replication")?);
        let registry = Arc::new(Registry::new(
            registry_config(&config, store_id, disks.room()),
            metadata.clone(),
            store.clone(),
            replication.read_through(),
        ));

        let (registered_tell, registered) = watch::channel(Registered::Pending);
        let store_health = StoreHealth::new();
        let alone_after = group::quorum_window(&config) * 2;
        let health =
            NodeHealth::new(metadata.clone(), registered.clone(), store_health.clone(), disks.room(), alone_after);
        let app = App::new(
            http_config(&config),
            registry.clone(),
            Arc::new(OpenAuthorizer),
            Arc::new(Directory(metadata.clone())),
            Arc::new(health),
            metrics.clone(),
        );

        let (stop_clients, stop_peers) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let reader = Arc::new(CheckedReader::new(store.clone(), CHECKSUM_CACHE_BYTES));
        let blobs = BlobServer::new(local, metadata.clone(), reader, BlobServer::STREAMS_MAX, stop_peers.clone());
        let peer_routes = group.services().add_service(blobs.into_service());
        let server = group::grpc_server(&config);
        tasks.spawn(servers::serve_peers(server, listeners.grpc, peer_routes, stop_peers.clone()));

        let (cluster, declared) = (cluster(&config), group::declared(&config));
        let nodes = ClusterNodes { group: group.clone(), cluster, declared: declared.clone() };
        let admin = Routes::new(AdminService::server(metadata.clone(), Arc::new(nodes)));
        let admin = servers::admin_router(admin, metrics);
        tasks.spawn(served(atoll_http::serve(
            vec![listeners.admin],
            admin,
            server_limits(&config),
            stop_peers.clone(),
        )));

        let router = atoll_http::router(app.clone());
        let limits = server_limits(&config);
        tasks.spawn(served(atoll_http::serve(vec![listeners.http], router, limits, stop_clients.clone())));

        if config.cluster.bootstrap {
            tasks.spawn(stopping(group::bootstrap(group.clone(), declared, cluster), stop_clients.clone()));
        }
        let me =
            RegisterNode { incarnation: Some(group.incarnation()), ..registration_of(&config, store.kind(), store_id) };
        tasks.spawn(stopping(register(metadata, me, cluster, registered_tell), stop_clients.clone()));
        tasks.spawn(stopping(probe_store(store, store_health), stop_clients.clone()));
        tasks.spawn(stopping(disk::watch(disks, fatal_tell), stop_clients.clone()));
        tracing::info!(
            node = %config.node.name,
            region = %config.node.region,
            http = %config.listen.http,
            "the node has started"
        );
        Ok(Self { group, registry, replication, app, registered, fatal, tasks, stop_clients, stop_peers })
    }

    /// Waits for the end: a signal is a good one, all else is not.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let refused = async {
            let mut registered = self.registered.clone();
            match registered.wait_for(|r| matches!(r, Registered::Refused(_))).await.as_deref() {
                Ok(Registered::Refused(why)) => why.clone(),
                // The sender is gone once the node is registered.
                _ => std::future::pending().await,
            }
        };
        let failed = async {
            loop {
                match self.tasks.join_next().await {
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => return error,
                    Some(Err(panic)) => return panic.into(),
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            signal = signals::asked_to_end() => {
                tracing::info!(signal = signal?, "the node ends in good order");
                Ok(())
            }
            Some(why) = self.fatal.recv() => bail!("{why}"),
            why = refused => bail!("the group refuses this node: {why}"),
            error = failed => Err(error),
        }
    }

    /// Ends the parts: clients first, so that what they were promised still finds the group.
    pub(crate) async fn stop(mut self) {
        self.stop_clients.cancel();
        self.app.drained().await;
        self.registry.shutdown().await;
        self.replication.shutdown().await;
        self.group.shutdown().await;
        self.stop_peers.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended.map_err(anyhow::Error::from).flatten() {
                tracing::warn!(error = format!("{error:#}"), "a part ended badly");
            }
        }
    }
}

async fn served(server: impl Future<Output = ()>) -> anyhow::Result<()> {
    server.await;
    Ok(())
}

/// A task that is dropped when clients are not served any more.
async fn stopping(task: impl Future<Output = ()>, stop: CancellationToken) -> anyhow::Result<()> {
    stop.run_until_cancelled_owned(task).await;
    Ok(())
}

/// Gives room back before it is asked whether there is any: a node that was killed in the midst of large uploads must
/// not be refused over bytes that its own start removes.
async fn sweep_store(config: &NodeConfig) -> anyhow::Result<()> {
    let Some(folder) = config.blobs_folder() else { return Ok(()) };
    if let Err(error) = tokio::task::spawn_blocking(move || FsStore::sweep(&folder)).await? {
        tracing::warn!(%error, "unfinished uploads of earlier runs were not all removed");
    }
    Ok(())
}

async fn open_store(config: &NodeConfig) -> anyhow::Result<(Arc<dyn BlobStore>, StoreId)> {
    let store: Arc<dyn BlobStore> = match &config.store {
        StoreSection::S3(section) => {
            let options = section.options().map_err(|problem| anyhow!("{problem}"))?;
            Arc::new(S3Store::open(options).await.context("opening the object store")?)
        }
        StoreSection::Fs { path } => {
            let folder = path.clone().unwrap_or_else(|| config.node.data.join("blobs"));
            let open = tokio::task::spawn_blocking(move || FsStore::open(folder, FsOptions::default()));
            Arc::new(open.await?.context("opening the object store")?)
        }
    };
    let id = store.identify(config.cluster.id).await.context("opening the object store")?;
    Ok((store, id))
}

async fn probe_store(store: Arc<dyn BlobStore>, health: Arc<StoreHealth>) {
    loop {
        let probe = store.probe().await;
        if let Err(error) = &probe {
            tracing::error!(%error, "the object store does not work");
        }
        health.set(probe.is_ok());
        tokio::time::sleep(STORE_PROBE_INTERVAL).await;
    }
}

fn cluster(config: &NodeConfig) -> read::Cluster {
    read::Cluster { id: config.cluster.id, epoch: config.cluster.epoch }
}

fn local_node(config: &NodeConfig, store: StoreId) -> LocalNode {
    LocalNode {
        node: config.node.id,
        region: config.node.region.clone(),
        store,
        cluster: ClusterIdentity { id: config.cluster.id, epoch: config.cluster.epoch },
    }
}

pub(crate) const fn role(role: Role) -> NodeRole {
    match role {
        Role::Voter => NodeRole::Voter,
        Role::Learner => NodeRole::Learner,
        Role::Witness => NodeRole::Witness,
    }
}

fn registration_of(config: &NodeConfig, kind: &str, store: StoreId) -> RegisterNode {
    RegisterNode {
        node: config.node.id,
        name: config.node.name.clone(),
        region: config.node.region.clone(),
        role: role(config.node.role),
        grpc_address: config.advertised_grpc(),
        http_address: config.advertised_http(),
        admin_address: config.advertised_admin(),
        store: Some(store),
        store_kind: kind.to_owned(),
        feature_level: group::FEATURE_LEVEL,
        incarnation: None,
    }
}

fn registry_config(config: &NodeConfig, store: StoreId, room: Room) -> RegistryConfig {
    let tag_reads = config.reads.tag_reads.iter().map(|(prefix, reads)| match reads {
        TagReads::Linearizable => (prefix.clone(), Consistency::Linearizable),
        TagReads::Bounded => (prefix.clone(), Consistency::Default),
    });
    RegistryConfig {
        max_staleness: Duration::from_millis(config.reads.max_staleness_ms),
        tag_reads: tag_reads.collect(),
        checksum_cache_bytes: CHECKSUM_CACHE_BYTES,
        room,
        ..RegistryConfig::new(config.node.region.clone(), config.node.id, store)
    }
}

fn peer_options(config: &NodeConfig) -> PeerOptions {
    let known = config.replication.round_trips_ms.iter();
    PeerOptions {
        link_bytes_per_s: config.replication.link_bytes_per_s,
        round_trips: known.map(|(region, ms)| (region.clone(), Duration::from_millis(*ms))).collect(),
        ..PeerOptions::default()
    }
}

fn read_through_options(config: &NodeConfig, room: Room) -> ReadThroughOptions {
    ReadThroughOptions {
        spool_bytes_max: config.replication.spool_bytes_max,
        streams_max: config.replication.streams_max,
        room,
        ..ReadThroughOptions::new(config.node.data.join("spool"))
    }
}

fn http_config(config: &NodeConfig) -> HttpConfig {
    let http = &config.http;
    let limits = RequestLimits {
        requests_max: http.requests_max,
        body_idle: Duration::from_millis(http.body_idle_ms),
        read_wait: Duration::from_millis(http.read_wait_ms),
        write_wait: Duration::from_millis(http.write_wait_ms),
        ..RequestLimits::default()
    };
    HttpConfig {
        region: config.node.region.clone(),
        node: config.node.id,
        server_names: http.server_names.clone(),
        limits,
    }
}

fn server_limits(config: &NodeConfig) -> ServerLimits {
    ServerLimits { shutdown: Duration::from_millis(config.shutdown.deadline_ms), ..ServerLimits::default() }
}

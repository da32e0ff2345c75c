//! A node: the real use cases and the real replication over a seat of the log, a mount of the disk and simulated
//! connections.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use atoll_blobstore::{BlobStore, CheckedReader, Fault, FaultPlan, FaultyStore, Fired, InvalidRule, Operation};
use atoll_proto::replication::ClusterIdentity;
use atoll_registry::{MetadataGroup, Registry, RegistryConfig};
use atoll_replication::{BlobServer, FetcherOptions, LocalNode, Parts, PeerOptions, ReadThroughOptions, Replication};
use atoll_telemetry::Metrics;
use atoll_types::{NodeId, RegionId, StoreId};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::checkers::lag::Told;
use crate::disk::Disk;
use crate::log::{Log, Seat};
use crate::net::{Net, PORT, SimDial};

/// Where a node is, whether it runs or not.
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) region: RegionId,
    pub(crate) store: StoreId,
    pub(crate) disk: Arc<Disk>,
}

/// A node that runs.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) region: RegionId,
    pub(crate) life: CancellationToken,
    pub(crate) metadata: Arc<dyn MetadataGroup>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) replication: Arc<Replication>,
    store: FaultyStore,
    upkeep: FaultyStore,
    has_store_faults: Arc<AtomicBool>,
    /// What it has told of each region's lag.
    pub(crate) lags: Arc<Mutex<BTreeMap<RegionId, Told>>>,
}

/// Everything that a store does wrong, each now and then. Bytes that are wrong in passing have good copies dropped: in
/// runs in which copies rot for good that would be more than one fault at a time, and is left out.
fn faults(seed: u64, rot: bool) -> Result<FaultPlan, InvalidRule> {
    use Operation as O;
    let slow = Fault::Slow(Duration::from_millis(400));
    let hang = Fault::Hang(Duration::from_secs(3));
    let rules = [
        (O::Create, Fault::Unavailable, 0.1),
        (O::Create, hang, 0.05),
        (O::Write, Fault::Broken, 0.05),
        (O::Write, slow, 0.1),
        (O::Complete, Fault::Unavailable, 0.1),
        (O::Complete, Fault::LostAnswer, 0.15),
        (O::Complete, hang, 0.05),
        (O::Checksums, Fault::FlipBit, 0.4),
        (O::Read, Fault::Unavailable, 0.2),
        (O::Read, Fault::Cut, 0.2),
        (O::Read, Fault::Reset, 0.2),
        (O::Read, Fault::FlipBit, 0.2),
        (O::Read, hang, 0.15),
        (O::Read, slow, 0.3),
    ];
    let wrong = |fault| matches!(fault, Fault::FlipBit | Fault::Cut);
    let rules = rules.into_iter().filter(|(_, fault, _)| !(rot && wrong(*fault)));
    rules
        .into_iter()
        .try_fold(FaultPlan::new(seed), |plan, (operation, fault, chance)| plan.with(operation, fault, chance))
}

/// What a store does wrong all the time: what is seldom asked of it would hardly ever meet a fault of a while.
fn upkeep_faults(seed: u64) -> Result<FaultPlan, InvalidRule> {
    let plan = FaultPlan::new(seed).with(Operation::Delete, Fault::Unavailable, 0.15)?;
    let plan = plan.with(Operation::Delete, Fault::LostAnswer, 0.15)?;
    plan.with(Operation::Probe, Fault::Unavailable, 0.5)
}

impl Node {
    /// Starts one, with a new life.
    pub(crate) fn start(
        place: &Place,
        log: &Arc<Log>,
        net: &Arc<Net>,
        spool: &Path,
        seed: u64,
        rot: bool,
    ) -> anyhow::Result<Self> {
        let (index, life) = (place.index, CancellationToken::new());
        log.join(index, &life);
        let metadata: Arc<dyn MetadataGroup> = Arc::new(Seat { log: log.clone(), node: index, life: life.clone() });
        let store = FaultyStore::new(place.disk.mount(index, life.clone()), faults(seed, rot)?);
        store.set_active(false);
        let upkeep = FaultyStore::new(Arc::new(store.clone()), upkeep_faults(seed)?);
        let blobs: Arc<dyn BlobStore> = Arc::new(upkeep.clone());
        let (node, region) = (NodeId(index as u64), place.region.clone());
        let cluster = ClusterIdentity { id: log.cluster, epoch: 1 };
        let local = LocalNode { node, region: region.clone(), store: place.store, cluster };
        serve(local.clone(), metadata.clone(), blobs.clone(), net, life.clone(), index);
        let dial = Arc::new(SimDial { net: net.clone(), from: index, life: life.clone() });
        let parts = Parts {
            local,
            metadata: metadata.clone(),
            store: blobs.clone(),
            metrics: Arc::new(Metrics::new()),
            peers: PeerOptions { dial, ..PeerOptions::default() },
            // Of larger blobs nothing is spooled: files are written on threads, whose pace no seed decides.
            read_through: ReadThroughOptions { spool_bytes_max: 0, ..ReadThroughOptions::new(spool.to_owned()) },
            fetcher: FetcherOptions::default(),
        };
        let replication = Arc::new(Replication::start(parts).context("starting replication")?);
        let config =
            RegistryConfig { upload_idle: UPLOAD_IDLE, ..RegistryConfig::new(region.clone(), node, place.store) };
        let registry = Arc::new(Registry::new(config, metadata.clone(), blobs, replication.read_through()));
        let (has_store_faults, lags) = (Arc::default(), Arc::default());
        Ok(Self { index, region, life, metadata, registry, replication, store, upkeep, has_store_faults, lags })
    }
}

impl Node {
    /// Lets the node's store do wrong, or ends that.
    pub(crate) fn set_store_faults(&self, active: bool) {
        self.has_store_faults.store(active, Ordering::SeqCst);
        self.store.set_active(active);
    }

    /// Ends all faults of the node's store.
    pub(crate) fn mend_store(&self) {
        self.set_store_faults(false);
        self.upkeep.set_active(false);
    }

    pub(crate) fn has_store_faults(&self) -> bool {
        self.has_store_faults.load(Ordering::SeqCst)
    }

    /// What the store did wrong.
    pub(crate) fn store_faults(&self) -> Vec<Fired> {
        self.store.fired().into_iter().chain(self.upkeep.fired()).filter(|fired| fired.times > 0).collect()
    }
}

/// For how long a session may be idle.
pub(crate) const UPLOAD_IDLE: Duration = Duration::from_secs(60);

fn serve(
    local: LocalNode,
    metadata: Arc<dyn MetadataGroup>,
    blobs: Arc<dyn BlobStore>,
    net: &Arc<Net>,
    life: CancellationToken,
    index: usize,
) {
    let reader = Arc::new(CheckedReader::new(blobs, 1 << 20));
    let server = BlobServer::new(local, metadata, reader, BlobServer::STREAMS_MAX, life.clone());
    let incoming = net.listen(index, life.clone());
    let serving = tonic::transport::Server::builder().add_service(server.into_service());
    tokio::spawn(async move {
        // It ends with the node; connections of a dead node break.
        let _ = serving.serve_with_incoming_shutdown(incoming, life.cancelled_owned()).await;
    });
}

/// The address that others reach a node by.
pub(crate) fn address(index: usize) -> String {
    format!("node-{index}:{}", usize::from(PORT) + index)
}

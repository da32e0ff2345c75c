//! All of a node's replication, started and stopped as one.

use std::io;
use std::sync::Arc;

use atoll_blobstore::BlobStore;
use atoll_registry::{MetadataGroup, ReadThrough};
use atoll_telemetry::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fetcher::{FailureList, Fetcher, Jobs, Lease, LeaseKeeper};
use crate::keep::Keeper;
use crate::record::Recorder;
use crate::shared::{FetchPool, ReadThroughPool};
use crate::source::PeerSources;
use crate::{Failure, FetcherOptions, LeaderClock, LocalNode, PeerOptions, ReadThroughOptions};

/// What a node's replication is made of.
pub struct Parts {
    /// The node.
    pub local: LocalNode,
    /// The metadata group as this node sees it.
    pub metadata: Arc<dyn MetadataGroup>,
    /// The region's object store.
    pub store: Arc<dyn BlobStore>,
    /// Counts bytes from other regions.
    pub metrics: Arc<Metrics>,
    /// How other regions are reached.
    pub peers: PeerOptions,
    /// Bounds of reading through.
    pub read_through: ReadThroughOptions,
    /// Bounds of the fetcher.
    pub fetcher: FetcherOptions,
}

/// A node's replication, running. A witness has none.
pub struct Replication {
    pool: Arc<FetchPool>,
    failures: FailureList,
    lease: Lease,
    clock: Arc<LeaderClock>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Replication {
    /// Starts it: the region's lease is asked for, and while this node holds it, what the region wants is fetched and
    /// replicated jobs go on. Fails when the spool folder cannot be used. Must be called in a tokio runtime.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let Parts { local, metadata, store, metrics, peers, read_through, fetcher } = parts;
        let (stop, tasks, clock) = (CancellationToken::new(), TaskTracker::new(), Arc::new(LeaderClock::default()));
        let sources = PeerSources::new(local.clone(), peers, metadata.clone(), metrics);
        let (recorder, recording) = Recorder::new(local.clone(), metadata.clone(), &fetcher);
        let keeper = Keeper { local: local.clone(), metadata: metadata.clone(), store, recorder, tasks: tasks.clone() };
        let pool = FetchPool::new(sources.clone(), keeper, read_through, stop.child_token())?;
        let (keeping, lease) = LeaseKeeper::new(local.clone(), metadata.clone(), fetcher.lease_ttl);
        let jobs = Jobs {
            local: local.clone(),
            metadata: metadata.clone(),
            lease: lease.clone(),
            clock: clock.clone(),
            tick: fetcher.tick,
        };
        let (fetching, failures) = Fetcher::new(local, fetcher, metadata, pool.clone(), lease.clone());
        tasks.spawn(recording.run(stop.child_token()));
        tasks.spawn(keeping.run(stop.child_token()));
        tasks.spawn(jobs.run(stop.child_token()));
        tasks.spawn(fetching.run(stop.child_token()));
        let token = stop.child_token();
        tasks.spawn(async move { sources.measure(token).await });
        Ok(Self { pool, failures, lease, clock, tasks, stop })
    }

    /// Streams blobs that this region does not hold.
    pub fn read_through(&self) -> Arc<dyn ReadThrough> {
        Arc::new(ReadThroughPool(self.pool.clone()))
    }

    /// Blobs that the region wants and that could not be fetched so far, those that fail longest first.
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.lock().list()
    }

    /// How many blobs are on their way to this node.
    pub fn in_flight(&self) -> usize {
        self.pool.len()
    }

    /// Whether this node has its region's replication duty now.
    pub fn holds_lease(&self) -> bool {
        self.lease.held()
    }

    /// Leader time as this node can tell, for [`crate::lag_report`].
    pub fn clock(&self) -> &LeaderClock {
        &self.clock
    }

    /// Stops everything and waits until it has. Clients that are being streamed to get an error; bodies that must end
    /// well are to be waited for before.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.pool.ended().await;
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

//! The source's side: streams blocks of this region's copies to other regions.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::{BlobStore, BlockStream, CheckedReader, StoreError};
use atoll_fault::step;
use atoll_metadata::{Command, DropItem, read};
use atoll_proto::replication::v1::blobs_server::{Blobs, BlobsServer};
use atoll_proto::replication::v1::{self, FetchRequest, PingRequest, PingResponse};
use atoll_proto::replication::{ClusterIdentity, FetchBlob};
use atoll_registry::{MetadataGroup, MetadataGroupExt, Mode};
use atoll_types::{Digest, ObjectName, RegionId};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::{LocalNode, propose};

/// Longest wait for one of the bounded streams, well under a fetcher's wait for its first block.
const STREAM_WAIT: Duration = Duration::from_millis(500);
/// Longest wait for a read barrier when this node knows of no copy.
const BARRIER_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for a bad copy to be dropped.
const REPORT_WAIT: Duration = Duration::from_secs(5);

/// Reports of bad copies under way at once; what is not reported now is found again.
const REPORTS_MAX: usize = 16;

/// Serves `atoll.replication.v1.Blobs`.
pub struct BlobServer {
    local: LocalNode,
    metadata: Arc<dyn MetadataGroup>,
    reader: Arc<CheckedReader>,
    streams: Arc<Semaphore>,
    /// Of them, those that nobody waits for.
    background: Arc<Semaphore>,
    reports: Reports,
    stop: CancellationToken,
}

/// Has bad copies dropped, so that they are wanted again.
#[derive(Clone)]
struct Reports {
    region: RegionId,
    store: Arc<dyn BlobStore>,
    metadata: Arc<dyn MetadataGroup>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl BlobServer {
    /// Most streams to other regions at once. Half of them are left to what clients wait for.
    pub const STREAMS_MAX: usize = 128;

    /// Serves the copies that are recorded for this node's region from its store. Streams end when `stop` is
    /// cancelled.
    pub fn new(
        local: LocalNode,
        metadata: Arc<dyn MetadataGroup>,
        reader: Arc<CheckedReader>,
        streams_max: usize,
        stop: CancellationToken,
    ) -> Self {
        let (region, stopping) = (local.region.clone(), stop.clone());
        let store = reader.store().clone();
        let reports = Reports { region, store, metadata: metadata.clone(), tasks: TaskTracker::new(), stop: stopping };
        let streams = Arc::new(Semaphore::new(streams_max));
        let background = Arc::new(Semaphore::new((streams_max / 2).max(1)));
        Self { local, metadata, reader, streams, background, reports, stop }
    }

    /// The service to mount.
    pub fn into_service(self) -> BlobsServer<Self> {
        BlobsServer::new(self)
    }

    fn check(&self, cluster: ClusterIdentity) -> Result<(), Status> {
        if cluster == self.local.cluster {
            return Ok(());
        }
        let (theirs, ours) = (cluster, self.local.cluster);
        Err(Status::failed_precondition(format!(
            "this node belongs to cluster {} epoch {}, the request is of cluster {} epoch {}",
            ours.id, ours.epoch, theirs.id, theirs.epoch
        )))
    }

    /// The right to a stream, and for what nobody waits for, the right to one of those.
    async fn permit(&self, background: bool) -> Result<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>), Status> {
        let permits = async {
            let background = match background {
                true => Some(self.background.clone().acquire_owned().await?),
                false => None,
            };
            Ok::<_, AcquireError>((self.streams.clone().acquire_owned().await?, background))
        };
        match timeout(STREAM_WAIT, permits).await {
            Ok(Ok(permits)) => Ok(permits),
            Ok(Err(_)) | Err(_) => Err(Status::resource_exhausted("all streams to other regions are taken; try again")),
        }
    }

    /// The blocks from the copy as this node knows it, and once more after a barrier where that is missing.
    async fn open(&self, fetch: &FetchBlob) -> Result<BlockStream, Status> {
        match self.open_known(fetch).await {
            Err(status) if status.code() == tonic::Code::NotFound => {
                if self.metadata.barrier(Instant::now() + BARRIER_WAIT).await.is_err() {
                    return Err(status);
                }
                self.open_known(fetch).await
            }
            other => other,
        }
    }

    async fn open_known(&self, fetch: &FetchBlob) -> Result<BlockStream, Status> {
        let (object, size) = self.resolve(&fetch.digest)?;
        if fetch.object.is_some_and(|asked| asked != object) {
            return Err(Status::not_found(format!("the copy of blob {} is another object by now", fetch.digest)));
        }
        let end = fetch.length.map_or(size, |length| fetch.offset + length);
        if end > size || fetch.offset >= end {
            return Err(Status::out_of_range(format!("blob {} has {size} bytes", fetch.digest)));
        }
        let (reports, digest) = (self.reports.clone(), fetch.digest);
        let opened = self.reader.blocks(&object, &digest, size, fetch.offset..end).await;
        let blocks = opened.inspect_err(|error| reports.consider(digest, object, error)).map_err(|e| of_store(&e))?;
        Ok(blocks.inspect_err(move |error| reports.consider(digest, object, error)).boxed())
    }

    fn resolve(&self, digest: &Digest) -> Result<(ObjectName, u64), Status> {
        let blob = self.metadata.read(|kv| read::blob(kv, digest)).map_err(|e| Status::internal(e.to_string()))?;
        let copy = blob.and_then(|blob| {
            let here = blob.copies.into_iter().find(|(region, _)| *region == self.local.region);
            here.map(|(_, object)| (object, blob.size))
        });
        copy.ok_or_else(|| Status::not_found(format!("blob {digest} has no copy in region {}", self.local.region)))
    }
}

impl Reports {
    /// Has a copy dropped that is corrupt or missing: the exact object. The last copy is marked instead, once.
    fn consider(&self, digest: Digest, object: ObjectName, error: &StoreError) {
        if !is_lost(error) || self.tasks.len() >= REPORTS_MAX || self.is_marked(&digest) {
            return;
        }
        tracing::warn!(%digest, %object, %error, "a copy is missing or corrupt; it is dropped and fetched again");
        let (metadata, stop, region) = (self.metadata.clone(), self.stop.clone(), self.region.clone());
        let store = self.store.clone();
        self.tasks.spawn(async move {
            // A disk that is not mounted, or another one in its place, lacks every object: that is no reason to drop any.
            if metadata.freshness().mode != Mode::ReadWrite || store.probe().await.is_err() {
                return;
            }
            let command = Command::DropCopies { region, copies: vec![DropItem { digest, object }] };
            let dropped = async { step!("copy.drop", propose::system(&*metadata, command, REPORT_WAIT).await) };
            if let Some(Err(error)) = stop.run_until_cancelled(dropped).await {
                tracing::warn!(%digest, %error, "the bad copy is still recorded");
            }
        });
    }

    /// Whether the group knows already that the last copy is bad; who wants the blob asks for it again and again.
    fn is_marked(&self, digest: &Digest) -> bool {
        self.metadata.read(|kv| read::blob(kv, digest)).is_ok_and(|blob| blob.is_some_and(|blob| blob.suspect))
    }
}

fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound(_) | StoreError::Corrupt { .. })
}

fn of_store(error: &StoreError) -> Status {
    match error {
        StoreError::NotFound(_) => Status::not_found(error.to_string()),
        StoreError::Corrupt { .. } => Status::data_loss(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

/// What a fetch answers.
type Blocks = Pin<Box<dyn Stream<Item = Result<v1::Block, Status>> + Send>>;

#[tonic::async_trait]
impl Blobs for BlobServer {
    type FetchStream = Blocks;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Blocks>, Status> {
        let fetch = FetchBlob::try_from(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        self.check(fetch.cluster)?;
        let permit = self.permit(fetch.background).await?;
        let blocks = self.open(&fetch).await?;
        let sent = blocks.map(move |block| {
            let _held = &permit;
            block.map(|b| v1::Block { offset: b.offset, data: b.bytes, xxh3: b.checksum }).map_err(|e| of_store(&e))
        });
        Ok(Response::new(sent.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let cluster = request.into_inner().cluster.try_into();
        self.check(
            cluster.map_err(|e: atoll_proto::replication::InvalidMessage| Status::invalid_argument(e.to_string()))?,
        )?;
        Ok(Response::new(PingResponse {}))
    }
}

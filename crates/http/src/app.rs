//! What all handlers share.

use std::sync::Arc;

use atoll_auth::{Access, Action, Authorizer, Identity};
use atoll_fault::{planted, step};
use atoll_registry::{Freshness, Mode, Registry, RegistryError};
use atoll_telemetry::Metrics;
use atoll_types::RepositoryName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::ApiError;
use crate::forward::Forwarder;
use crate::held::Held;
use crate::{Health, HttpConfig, PeerDirectory};

/// A request's place among those that are served at once: free when its answer was sent and its writes have ended,
/// whichever is later.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

/// What all handlers share.
pub struct App {
    pub(crate) config: HttpConfig,
    pub(crate) registry: Arc<Registry>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) peers: Arc<dyn PeerDirectory>,
    pub(crate) health: Arc<dyn Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) forwarder: Forwarder,
    pub(crate) requests: Arc<Semaphore>,
    /// For bodies of manifests that are put.
    pub(crate) held: Held,
    /// For pages of tags and of repositories that are answered.
    pub(crate) lists: Held,
    /// For pages of referrers, which may be large: apart, so that no list of names has to wait for them.
    pub(crate) referrers: Held,
    pub(crate) tasks: TaskTracker,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        config: HttpConfig,
        registry: Arc<Registry>,
        authorizer: Arc<dyn Authorizer>,
        peers: Arc<dyn PeerDirectory>,
        health: Arc<dyn Health>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let forwarder = Forwarder::new(config.node, &config.limits);
        let requests = Arc::new(Semaphore::new(config.limits.requests_max));
        let tasks = TaskTracker::new();
        Arc::new(Self {
            config,
            registry,
            authorizer,
            peers,
            health,
            metrics,
            forwarder,
            requests,
            held: Held::new("the manifests that are being put"),
            lists: Held::new("the lists that are being sent"),
            referrers: Held::new("the lists of referrers that are being sent"),
            tasks,
        })
    }

    /// Waits for writes and drains that outlived their connections. Call it after [`crate::serve`] has returned; every
    /// one of them has a deadline of its own.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.registry.freshness()
    }

    /// Refuses a write at once where it could not be acknowledged: before its body is read.
    pub(crate) fn writable(&self) -> Result<(), ApiError> {
        match self.freshness().mode {
            Mode::ReadWrite => Ok(()),
            Mode::ReadOnly if planted!("read_only_write_acknowledged") => Ok(()),
            Mode::ReadOnly => Err(RegistryError::ReadOnly { region: self.config.region.clone() }.into()),
        }
    }

    /// The proof that a use case takes.
    pub(crate) fn access<A: Action>(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
    ) -> Result<Access<A>, ApiError> {
        self.authorizer.access(identity, repository).map_err(|denied| RegistryError::from(denied).into())
    }

    /// Runs a write to its end even if its client leaves: half of a write must not be dropped. It keeps its place.
    pub(crate) async fn to_its_end<T, F>(&self, place: Option<Place>, write: F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
        T: Send + 'static,
    {
        let write = async move {
            let _place = place;
            write.await
        };
        let write = tracing::Instrument::instrument(write, tracing::Span::current());
        match step!("request.write", self.tasks.spawn(write).await) {
            Ok(result) => Ok(result?),
            Err(error) => {
                tracing::error!(%error, "a write panicked");
                Err(ApiError::Panic)
            }
        }
    }
}

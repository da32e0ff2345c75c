//! When a node is ready, and for what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atoll_http::{Health, Readiness};
use atoll_registry::{MetadataGroup, Mode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::registration::Registered;

/// Ready for pulls: when a barrier that was taken after the start has passed, or, while cut off, after a bounded wait.
/// Ready for pushes: read-write and registered.
pub(crate) struct NodeHealth {
    metadata: Arc<dyn MetadataGroup>,
    registered: watch::Receiver<Registered>,
    store: Arc<StoreHealth>,
    /// From when on a node that reaches no quorum serves what it has.
    alone_from: Instant,
}

/// Whether the object store worked when it was last probed.
pub(crate) struct StoreHealth(AtomicBool);

impl StoreHealth {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn set(&self, works: bool) {
        if self.0.swap(works, Ordering::Relaxed) != works {
            tracing::warn!(works, "the object store's health changed");
        }
    }

    fn works(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl NodeHealth {
    /// `alone_after`: how long a starting node waits for a quorum before it serves pulls without one.
    pub(crate) fn new(
        metadata: Arc<dyn MetadataGroup>,
        registered: watch::Receiver<Registered>,
        store: Arc<StoreHealth>,
        alone_after: Duration,
    ) -> Self {
        Self { metadata, registered, store, alone_from: Instant::now() + alone_after }
    }

    fn pulls(&self) -> Result<(), String> {
        let now = self.metadata.freshness();
        if now.staleness.is_none() && Instant::now() < self.alone_from {
            return Err("this node has not caught up with the group since its start".to_owned());
        }
        if !self.store.works() && now.mode == Mode::ReadOnly {
            return Err("the object store does not work, and no other region is in reach".to_owned());
        }
        Ok(())
    }

    fn pushes(&self) -> Result<(), String> {
        self.pulls()?;
        if self.metadata.freshness().mode == Mode::ReadOnly {
            return Err("read-only: no quorum is in reach".to_owned());
        }
        if *self.registered.borrow() != Registered::Done {
            return Err("this node is not registered with the group yet".to_owned());
        }
        if !self.store.works() {
            return Err("the object store does not work".to_owned());
        }
        Ok(())
    }
}

impl Health for NodeHealth {
    fn ready(&self) -> Readiness {
        Readiness { pulls: self.pulls(), pushes: self.pushes() }
    }
}

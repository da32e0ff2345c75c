//! When a node is ready, and for what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atoll_http::{Health, Readiness};
use atoll_registry::{MetadataGroup, Mode, Room};
use atoll_types::Revision;
use tokio::sync::watch;
use tokio::time::Instant;

use super::registration::Registered;

/// Ready for pulls: when a barrier that was taken after the start has passed, or, while cut off, after a bounded wait,
/// with what it has; never before it has had part in a group.
/// Ready for pushes: read-write, registered, and with room on the disks.
pub(crate) struct NodeHealth {
    metadata: Arc<dyn MetadataGroup>,
    registered: watch::Receiver<Registered>,
    store: Arc<StoreHealth>,
    room: Room,
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
        room: Room,
        alone_after: Duration,
    ) -> Self {
        Self { metadata, registered, store, room, alone_from: Instant::now() + alone_after }
    }

    fn pulls(&self) -> Result<(), String> {
        let now = self.metadata.freshness();
        if now.applied == Revision(0) {
            return Err("this node has never been in a group: it has nothing to serve until it hears of one".to_owned());
        }
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
        self.room.check().map_err(|no_room| no_room.to_string())
    }
}

impl Health for NodeHealth {
    fn ready(&self) -> Readiness {
        Readiness { pulls: self.pulls(), pushes: self.pushes() }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use atoll_metadata::{KvError, KvRead};
    use atoll_registry::{Applied, BarrierError, Freshness, Proposal, ProposeError};

    use super::*;

    /// A cut-off node's view of the group.
    struct CutOff {
        applied: Revision,
    }

    #[async_trait]
    impl MetadataGroup for CutOff {
        fn read_with(&self, _: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
            Err(KvError("nothing is read".into()))
        }

        async fn propose(&self, _: Proposal) -> Result<Applied, ProposeError> {
            Err(ProposeError::NotProposed("it is cut off".into()))
        }

        async fn barrier(&self, _: Instant) -> Result<Revision, BarrierError> {
            Err(BarrierError::NoQuorum)
        }

        async fn wait_applied(&self, revision: Revision, _: Instant) -> Result<(), BarrierError> {
            Err(BarrierError::Behind(revision))
        }

        fn freshness(&self) -> Freshness {
            Freshness { applied: self.applied, mode: Mode::ReadOnly, staleness: None, read_only_since: None }
        }
    }

    fn health(applied: u64, alone_after: Duration) -> NodeHealth {
        let (_, registered) = watch::channel(Registered::Pending);
        let group = Arc::new(CutOff { applied: Revision(applied) });
        NodeHealth::new(group, registered, StoreHealth::new(), Room::default(), alone_after)
    }

    #[test]
    fn a_node_that_starts_cut_off_serves_what_it_has_after_a_while() {
        let why = health(7, Duration::from_secs(60)).ready().pulls.expect_err("it waits for a quorum first");
        assert!(why.contains("caught up"), "{why}");
        let ready = health(7, Duration::ZERO).ready();
        assert_eq!(ready.pulls, Ok(()));
        assert!(ready.pushes.is_err());
    }

    #[test]
    fn a_node_that_was_never_in_a_group_is_not_ready_however_long_it_waits() {
        let why = health(0, Duration::ZERO).ready().pulls.expect_err("it has nothing");
        assert!(why.contains("never been in a group"), "{why}");
    }
}

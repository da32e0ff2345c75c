//! A metadata group of one process: the real state machine, in memory, with a quorum that can be taken away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use atoll_blobstore::ByteStream;
use atoll_metadata::{Command, Entry, Envelope, KvError, KvRead, MemoryKv, apply};
use atoll_registry::{
    Applied, BarrierError, Freshness, MetadataGroup, Mode, Proposal, ProposeError, ReadThrough, ReadThroughError,
};
use atoll_types::{ClusterId, Digest, NodeId, RegionId, RequestId, Revision, StoreId};
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) struct Group {
    cluster: ClusterId,
    state: Mutex<(MemoryKv, Revision)>,
    cut_off: AtomicBool,
}

impl Group {
    /// A cluster of one region with its store.
    pub(crate) fn new(region: &RegionId, store: StoreId) -> Self {
        let cluster = ClusterId::random();
        let group = Self { cluster, state: Mutex::default(), cut_off: AtomicBool::new(false) };
        for command in [
            Command::InitCluster { cluster, epoch: 1 },
            Command::RegisterRegion { region: region.clone() },
            Command::SetStore { region: region.clone(), store, replaces: None },
        ] {
            group.apply(command, RequestId::random(), Revision(0), 0).unwrap();
        }
        group
    }

    /// Takes the quorum away, or gives it back.
    pub(crate) fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::SeqCst);
    }

    fn apply(&self, command: Command, request: RequestId, seen: Revision, attempt: u32) -> Result<Applied, KvError> {
        let mut state = self.state.lock();
        let revision = Revision(state.1.0 + 1);
        let time_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let envelope = Envelope {
            request,
            attempt,
            seen,
            actor: String::new(),
            client_address: String::new(),
            origin: NodeId(1),
            trace_parent: String::new(),
            cluster: self.cluster,
            epoch: 1,
            feature_level: 1,
        };
        let applied = apply(&mut state.0, revision, &Entry { time_ms, envelope, command })?;
        state.1 = revision;
        Ok(Applied { revision: applied.revision, outcome: applied.outcome })
    }
}

#[async_trait]
impl MetadataGroup for Group {
    fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
        read(&self.state.lock().0);
        Ok(())
    }

    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        if self.cut_off.load(Ordering::SeqCst) {
            return Err(ProposeError::NotProposed("no quorum".to_owned()));
        }
        let attempt = u32::from(proposal.may_be_retry);
        self.apply(proposal.command, proposal.request, proposal.seen, attempt)
            .map_err(|e| ProposeError::Unknown(e.to_string()))
    }

    async fn barrier(&self, _: Instant) -> Result<Revision, BarrierError> {
        if self.cut_off.load(Ordering::SeqCst) { Err(BarrierError::NoQuorum) } else { Ok(self.state.lock().1) }
    }

    async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError> {
        if self.state.lock().1 < revision {
            tokio::time::sleep_until(deadline).await;
            return Err(BarrierError::Behind(revision));
        }
        Ok(())
    }

    fn freshness(&self) -> Freshness {
        let cut_off = self.cut_off.load(Ordering::SeqCst);
        Freshness {
            applied: self.state.lock().1,
            mode: if cut_off { Mode::ReadOnly } else { Mode::ReadWrite },
            staleness: Some(Duration::ZERO),
            read_only_since: cut_off.then_some(SystemTime::UNIX_EPOCH),
        }
    }
}

/// There is no other region.
pub(crate) struct Nowhere;

#[async_trait]
impl ReadThrough for Nowhere {
    async fn read(&self, _: &Digest, _: std::ops::Range<u64>) -> Result<ByteStream, ReadThroughError> {
        Err(ReadThroughError::Unreachable(Vec::new()))
    }
}

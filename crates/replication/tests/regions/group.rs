//! The metadata group without Raft: one state machine, seen by every node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use atoll_metadata::{Command, Entry, Envelope, KvError, KvRead, MemoryKv, Outcome, apply};
use atoll_registry::{Applied, BarrierError, Freshness, MetadataGroup, Mode, Proposal, ProposeError};
use atoll_types::{ClusterId, NodeId, RequestId, Revision};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The state that all nodes share.
pub(crate) struct Group {
    pub(crate) cluster: ClusterId,
    state: Mutex<(MemoryKv, u64)>,
    applied: watch::Sender<u64>,
}

impl Group {
    pub(crate) fn new() -> Arc<Self> {
        let cluster = ClusterId::random();
        let group = Arc::new(Self { cluster, state: Mutex::new((MemoryKv::new(), 0)), applied: watch::Sender::new(0) });
        let done = group.apply(Command::InitCluster { cluster, epoch: 1 }, RequestId::random(), NodeId(0));
        assert!(matches!(done.outcome, Outcome::Done(_)), "{done:?}");
        group
    }

    /// Applies a command that must succeed.
    pub(crate) fn must(&self, command: Command) -> Applied {
        let applied = self.apply(command, RequestId::random(), NodeId(0));
        assert!(matches!(applied.outcome, Outcome::Done(_)), "{applied:?}");
        applied
    }

    fn apply(&self, command: Command, request: RequestId, origin: NodeId) -> Applied {
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let (applied, revision) = {
            let mut state = self.state.lock();
            let (kv, revision) = &mut *state;
            let envelope = Envelope {
                request,
                attempt: 0,
                seen: Revision(*revision),
                actor: String::new(),
                client_address: String::new(),
                origin,
                trace_parent: String::new(),
                cluster: self.cluster,
                epoch: 1,
                feature_level: 1,
            };
            *revision += 1;
            let applied = apply(kv, Revision(*revision), &Entry { time_ms, envelope, command }).unwrap();
            (applied, *revision)
        };
        self.applied.send_replace(revision);
        Applied { revision: applied.revision, outcome: applied.outcome }
    }

    /// The group as one node sees it.
    pub(crate) fn node(self: &Arc<Self>, node: NodeId) -> Arc<NodeView> {
        Arc::new(NodeView { group: self.clone(), node, cut_off: AtomicBool::new(false) })
    }
}

/// The group as one node sees it.
pub(crate) struct NodeView {
    group: Arc<Group>,
    node: NodeId,
    cut_off: AtomicBool,
}

impl NodeView {
    /// Lets the node lose or regain its quorum.
    pub(crate) fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::SeqCst);
    }
}

#[async_trait]
impl MetadataGroup for NodeView {
    fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
        let view = self.group.state.lock().0.clone();
        read(&view);
        Ok(())
    }

    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        if self.cut_off.load(Ordering::SeqCst) {
            return Err(ProposeError::NotProposed("no quorum".into()));
        }
        Ok(self.group.apply(proposal.command, proposal.request, self.node))
    }

    async fn barrier(&self, _: Instant) -> Result<Revision, BarrierError> {
        match self.freshness().mode {
            Mode::ReadWrite => Ok(self.freshness().applied),
            Mode::ReadOnly => Err(BarrierError::NoQuorum),
        }
    }

    async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError> {
        let mut applied = self.group.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= revision.0);
        match timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(BarrierError::Behind(revision)),
        }
    }

    fn freshness(&self) -> Freshness {
        let cut_off = self.cut_off.load(Ordering::SeqCst);
        Freshness {
            applied: Revision(*self.group.applied.borrow()),
            mode: if cut_off { Mode::ReadOnly } else { Mode::ReadWrite },
            staleness: Some(Duration::ZERO),
            read_only_since: cut_off.then(SystemTime::now),
        }
    }
}

//! The metadata group without Raft: the real state machine in memory, seen by any number of nodes, each of which can be
//! made to lag, or be cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use atoll_metadata::{Command, Entry, Envelope, KvError, KvRead, MemoryKv, Outcome, apply};
use atoll_registry::{Applied, BarrierError, Freshness, MetadataGroup, Mode, Proposal, ProposeError};
use atoll_types::{ClusterId, NodeId, RegionId, RequestId, Revision, StoreId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The state at one revision.
#[derive(Clone, Default)]
struct State {
    kv: Arc<MemoryKv>,
    revision: u64,
}

/// The state that all nodes share.
pub struct LocalGroup {
    cluster: ClusterId,
    state: watch::Sender<State>,
    apply: Mutex<()>,
}

impl LocalGroup {
    /// A group of a new cluster.
    pub fn new() -> Result<Arc<Self>, KvError> {
        let cluster = ClusterId::random();
        let group = Self { cluster, state: watch::Sender::new(State::default()), apply: Mutex::new(()) };
        group.must(Command::InitCluster { cluster, epoch: 1 })?;
        Ok(Arc::new(group))
    }

    /// The cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Registers a region with its store.
    pub fn add_region(&self, region: &RegionId, store: StoreId) -> Result<(), KvError> {
        self.must(Command::RegisterRegion { region: region.clone() })?;
        self.must(Command::SetStore { region: region.clone(), store, replaces: None })?;
        Ok(())
    }

    /// Applies a command that must not be refused.
    pub fn must(&self, command: Command) -> Result<Applied, KvError> {
        let seen = Revision(self.state.borrow().revision);
        let envelope = self.envelope(RequestId::random(), seen, NodeId(0));
        match self.apply(command, envelope)? {
            Applied { outcome: Outcome::Rejected(why), .. } => Err(KvError(format!("refused: {why}"))),
            applied => Ok(applied),
        }
    }

    /// Runs a closure over the newest state.
    pub fn read<R>(&self, read: impl FnOnce(&dyn KvRead) -> R) -> R {
        let state = self.state.borrow().clone();
        read(state.kv.as_ref())
    }

    /// The group as one node sees it: current, read-write.
    pub fn node(self: &Arc<Self>, node: NodeId) -> Arc<LocalNode> {
        Arc::new(LocalNode {
            group: self.clone(),
            node,
            lagging: Mutex::new(None),
            next: Mutex::new(None),
            held: watch::Sender::new(Held::default()),
            cut_off: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            staleness_ms: AtomicU64::new(0),
            barriers: AtomicU64::new(0),
        })
    }

    fn envelope(&self, request: RequestId, seen: Revision, origin: NodeId) -> Envelope {
        Envelope {
            request,
            attempt: 0,
            seen,
            actor: String::new(),
            client_address: String::new(),
            origin,
            trace_parent: String::new(),
            cluster: self.cluster,
            epoch: 1,
            feature_level: 1,
        }
    }

    fn apply(&self, command: Command, envelope: Envelope) -> Result<Applied, KvError> {
        let _one_at_a_time = self.apply.lock();
        let State { kv, revision } = self.state.borrow().clone();
        let (mut kv, revision) = (MemoryKv::clone(&kv), revision + 1);
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let applied = apply(&mut kv, Revision(revision), &Entry { time_ms, envelope, command })?;
        self.state.send_replace(State { kv: Arc::new(kv), revision });
        Ok(Applied { revision: applied.revision, outcome: applied.outcome })
    }
}

/// What becomes of a node's next proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextProposal {
    /// It is not proposed, and the node says so.
    NotProposed,
    /// It is lost, and nobody knows.
    LostUnknown,
    /// It is applied, but the answer is lost.
    AppliedUnknown,
}

/// The group as one node sees it.
pub struct LocalNode {
    group: Arc<LocalGroup>,
    node: NodeId,
    /// The state that is applied here, if that is not the newest.
    lagging: Mutex<Option<State>>,
    next: Mutex<Option<NextProposal>>,
    held: watch::Sender<Held>,
    cut_off: AtomicBool,
    stalled: AtomicBool,
    staleness_ms: AtomicU64,
    barriers: AtomicU64,
}

/// Whether proposals are held, and how many were.
#[derive(Default)]
struct Held {
    holding: bool,
    proposals: usize,
}

/// Staleness that is not known.
const UNKNOWN: u64 = u64::MAX;

impl LocalNode {
    /// Lets the node lose or regain its quorum.
    pub fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::SeqCst);
    }

    /// From now on, the node applies nothing new but by a barrier or its own writes.
    pub fn lag(&self) {
        *self.lagging.lock() = Some(self.group.state.borrow().clone());
    }

    /// Barriers do not end any more, as in an election.
    pub fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    /// How old the view says that it may be; `None`: unknown.
    pub fn set_staleness(&self, staleness: Option<Duration>) {
        let ms = staleness.map_or(UNKNOWN, |s| s.as_millis() as u64);
        self.staleness_ms.store(ms, Ordering::SeqCst);
    }

    /// How many barriers were asked for.
    pub fn barriers(&self) -> u64 {
        self.barriers.load(Ordering::SeqCst)
    }

    /// What becomes of the next proposal alone.
    pub fn next_proposal(&self, next: NextProposal) {
        *self.next.lock() = Some(next);
    }

    /// Holds proposals, so that writes are under way until they are let go.
    pub fn hold(&self, holding: bool) {
        self.held.send_modify(|held| held.holding = holding);
    }

    /// Waits until so many proposals were held.
    pub async fn held(&self, proposals: usize) {
        // The sender lives as long as the node.
        let _ = self.held.subscribe().wait_for(|held| held.proposals >= proposals).await;
    }

    async fn wait_while_held(&self) {
        if self.held.borrow().holding {
            self.held.send_modify(|held| held.proposals += 1);
            let _ = self.held.subscribe().wait_for(|held| !held.holding).await;
        }
    }

    fn state(&self) -> State {
        self.lagging.lock().clone().unwrap_or_else(|| self.group.state.borrow().clone())
    }

    fn catch_up(&self) {
        if let Some(state) = self.lagging.lock().as_mut() {
            *state = self.group.state.borrow().clone();
        }
    }

    fn apply(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        let mut envelope = self.group.envelope(proposal.request, proposal.seen, self.node);
        envelope.attempt = u32::from(proposal.may_be_retry);
        (envelope.actor, envelope.client_address) = (proposal.actor, proposal.client_address);
        let applied = self.group.apply(proposal.command, envelope);
        self.catch_up();
        applied.map_err(|error| ProposeError::Unknown(error.to_string()))
    }
}

#[async_trait]
impl MetadataGroup for LocalNode {
    fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
        read(self.state().kv.as_ref());
        Ok(())
    }

    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        if self.cut_off.load(Ordering::SeqCst) {
            return Err(ProposeError::NotProposed("no quorum".into()));
        }
        self.wait_while_held().await;
        let next = self.next.lock().take();
        match next {
            None => self.apply(proposal),
            Some(NextProposal::NotProposed) => Err(ProposeError::NotProposed("as the test asks".into())),
            Some(NextProposal::LostUnknown) => Err(ProposeError::Unknown("as the test asks".into())),
            Some(NextProposal::AppliedUnknown) => {
                self.apply(proposal)?;
                Err(ProposeError::Unknown("as the test asks".into()))
            }
        }
    }

    async fn barrier(&self, deadline: Instant) -> Result<Revision, BarrierError> {
        self.barriers.fetch_add(1, Ordering::SeqCst);
        if self.stalled.load(Ordering::SeqCst) {
            tokio::time::sleep_until(deadline).await;
            return Err(BarrierError::NoQuorum);
        }
        if self.cut_off.load(Ordering::SeqCst) {
            return Err(BarrierError::NoQuorum);
        }
        self.catch_up();
        Ok(Revision(self.state().revision))
    }

    async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError> {
        let mut newest = self.group.state.subscribe();
        match timeout_at(deadline, newest.wait_for(|state| state.revision >= revision.0)).await {
            Ok(Ok(_)) => {
                self.catch_up();
                Ok(())
            }
            _ => Err(BarrierError::Behind(revision)),
        }
    }

    fn freshness(&self) -> Freshness {
        let cut_off = self.cut_off.load(Ordering::SeqCst);
        let staleness = self.staleness_ms.load(Ordering::SeqCst);
        Freshness {
            applied: Revision(self.state().revision),
            mode: if cut_off { Mode::ReadOnly } else { Mode::ReadWrite },
            staleness: (staleness != UNKNOWN).then(|| Duration::from_millis(staleness)),
            read_only_since: cut_off.then(SystemTime::now),
        }
    }
}

//! The handle on the group, and its start and end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_fault::step;
use atoll_metadata::{Applied, Entry, KvError, KvRead};
use atoll_proto::metadata::v1::StatusRequest;
use atoll_proto::metadata::v1::metadata_client::MetadataClient;
use atoll_proto::metadata::v1::metadata_server::MetadataServer;
use atoll_proto::raft::v1::raft_server::RaftServer;
use atoll_storage::{DataFolder, LogStore, StateStore, StorageError};
use atoll_types::{ClusterId, Incarnation, NodeId, Revision};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::barrier::{BarrierTask, Rounds};
use crate::batcher::{Answer, Batcher, BatcherTask};
use crate::clock::Stamper;
use crate::error::{BarrierError, GroupError, ProposeError};
use crate::fence::{Fence, lost_folder};
use crate::leadership::Leadership;
use crate::network::{Callee, Lane, Network, Peers};
use crate::options::{GroupOptions, Member};
use crate::propose::{Proposal, Proposing};
use crate::pulse::{Freshness, Mode, Pulse};
use crate::raft::types::PeerNode;
use crate::raft::{Log, PurgeGuard, Raft, StateMachine, blocking, raft_config};
use crate::service::{MetadataService, RaftService, Receiving};
use crate::status::NodeStatus;
use crate::upkeep;

/// Bytes of log entries in one message to a peer, about. It has to come and be answered within
/// [`crate::Timing::log_stall`], over a slow link that blobs share; many are under way at once.
const LOG_BATCH_BYTES: usize = 128 << 10;

/// This node's part in the metadata group. Cheap to clone; the group ends with [`Group::shutdown`], or with the last
/// clone.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones share.
pub(crate) struct Inner {
    pub(crate) options: GroupOptions,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) batcher: Batcher,
    pub(crate) pulse: Arc<Pulse>,
    state: Arc<StateStore>,
    log: Arc<LogStore>,
    applied: watch::Receiver<u64>,
    /// Reads may not see less.
    floor: AtomicU64,
    rounds: Arc<Rounds>,
    pub(crate) leadership: Arc<Leadership>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    _cancel_at_end: DropGuard,
}

/// The node's two stores.
struct Stores {
    log: Arc<LogStore>,
    state: Arc<StateStore>,
}

impl Stores {
    async fn open(folder: Arc<DataFolder>, options: &GroupOptions) -> Result<Self, GroupError> {
        let (resources, on_fatal) = (options.resources.clone(), options.on_fatal.clone());
        let (cluster, epoch) = (options.cluster, options.epoch);
        let open = move || {
            let fatal = move |error: &StorageError| on_fatal(&format!("the log has failed: {error}"));
            let log = Arc::new(LogStore::open(&folder, &resources, fatal)?);
            let state = Arc::new(StateStore::open(&folder, &resources)?);
            check_epoch(&state, cluster, epoch)?;
            check_log(&folder, &log, &state)?;
            // The same values as travel on every call, and nothing leaves before the folder has them.
            folder.claim(cluster, epoch)?;
            cover_missing_log(&log, &state)?;
            Ok::<_, GroupError>(Self { log, state })
        };
        tokio::task::spawn_blocking(open).await.map_err(|e| GroupError::Stopped(e.to_string()))?
    }
}

/// A state that is another cluster's or another epoch's would refuse every command, and must not be spread.
fn check_epoch(state: &StateStore, cluster: ClusterId, epoch: u64) -> Result<(), GroupError> {
    let unreadable = |e: KvError| GroupError::Storage(e.into());
    match state.read(|view| atoll_metadata::read::cluster(view))?.map_err(unreadable)? {
        Some(known) if (known.id, known.epoch) != (cluster, epoch) => Err(GroupError::Options(format!(
            "the state here is of cluster {} epoch {}, and the configuration says cluster {cluster} epoch {epoch}; set what \
             it was, or give this node an empty data folder and a new number",
            known.id, known.epoch
        ))),
        _ => Ok(()),
    }
}

/// Nothing is ever applied before a vote is saved: a state beside a log without one means that the log's folder was
/// emptied. It acknowledged what it does not remember, and could vote twice in a term.
fn check_log(folder: &DataFolder, log: &LogStore, state: &StateStore) -> Result<(), StorageError> {
    if log.vote().is_some() || state.revision() == 0 {
        return Ok(());
    }
    let what = format!("the log is empty, and the state is at revision {}", state.revision());
    Err(StorageError::Corrupt { path: folder.path().join("log"), what })
}

/// After a kill the state may be ahead of the log: entries are applied when a quorum has them, which may be without
/// this node's own disk. Raft then starts from the state and drops the log; a follower that is behind it needs a
/// snapshot that reaches as far, and an older one would be sent to it for ever.
fn cover_missing_log(log: &LogStore, state: &StateStore) -> Result<(), StorageError> {
    let end = log.last_index().or(log.purged().map(|(index, _)| index)).unwrap_or(0);
    let newest = state.current_checkpoint().map_or(0, |checkpoint| checkpoint.applied().revision);
    if state.revision() > end && newest < state.revision() {
        tracing::warn!(log = end, state = state.revision(), "the log ends before the state; a snapshot is made");
        state.create_checkpoint()?;
    }
    Ok(())
}

impl Group {
    /// Opens a node's stores and takes part in the group. It serves nothing until [`Group::services`] are mounted.
    pub async fn start(options: GroupOptions, folder: Arc<DataFolder>) -> Result<Self, GroupError> {
        let config = raft_config(&options).map_err(|e| GroupError::Options(e.to_string()))?;
        let lost = lost_folder(&options.member.name, folder.path());
        let fence = Fence::new(options.member.node, folder.incarnation(), options.on_fatal.clone(), lost);
        let fence = Arc::new(fence);
        let stores = Stores::open(folder, &options).await?;
        fence.learn(&stores.state)?;
        let peers = Arc::new(Peers::new(&options, fence.clone()));
        let stamper = Arc::new(Stamper::new(options.clock.clone()));
        stamper.learn(&stores.state)?;
        let applied = watch::Sender::new(stores.state.revision());
        let watched = applied.subscribe();

        let guard = PurgeGuard { state: stores.state.clone(), applied: watched.clone() };
        let log = Log::new(stores.log.clone(), LOG_BATCH_BYTES, Some(guard));
        let machine = StateMachine::new(stores.state.clone(), applied, stamper.clone(), fence);
        let node = options.member.node.0;
        let network = Network::new(peers.clone(), node);
        let raft = Raft::new(node, config, network, log, machine).await.map_err(stopped)?;

        let (batcher, batching) = Batcher::new(raft.clone(), stamper);
        let pulse = Arc::new(Pulse::new(options.timing.quorum_window()));
        let rounds = Arc::new(Rounds::new(pulse.clone()));
        let leadership = Arc::new(Leadership::new(node, peers.clone()));
        let cancel = CancellationToken::new();
        let inner = Inner {
            raft,
            peers,
            batcher,
            pulse,
            state: stores.state,
            log: stores.log,
            applied: watched,
            floor: AtomicU64::new(0),
            rounds,
            leadership,
            tasks: TaskTracker::new(),
            _cancel_at_end: cancel.clone().drop_guard(),
            cancel,
            options,
        };
        inner.spawn(batching);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The services that peers call, to be mounted on a server such as [`crate::grpc_server`] makes.
    pub fn services(&self) -> Routes {
        let inner = &self.inner;
        let callee = Callee { identity: inner.peers.identity().clone(), fence: inner.peers.fence().clone() };
        let raft = RaftService {
            raft: inner.raft.clone(),
            state: inner.state.clone(),
            log: inner.log.clone(),
            closed: inner.peers.fence().closed().clone(),
            receiving: Receiving::default(),
            stall: inner.options.timing.log_stall,
            cancel: inner.cancel.clone(),
        };
        let metadata = MetadataService { group: self.clone() };
        Routes::new(RaftServer::with_interceptor(raft, callee.clone()))
            .add_service(MetadataServer::with_interceptor(metadata, callee))
    }

    /// Forms the group out of these voters, where it is not formed yet; otherwise changes nothing. Every member may call
    /// it at its start, with the very same members, or one of them alone: two that form different groups would part.
    pub async fn initialize(&self, members: &[Member]) -> Result<(), GroupError> {
        let nodes: BTreeMap<u64, PeerNode> = members.iter().map(|member| (member.node.0, peer_node(member))).collect();
        if nodes.len() != members.len() {
            return Err(GroupError::Options("two members have the same number".to_owned()));
        }
        match step!("group.initialize", self.inner.raft.initialize(nodes).await) {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(GroupError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(stopped(error)),
        }
    }

    /// Whether the group was formed, as far as this node knows.
    pub async fn is_initialized(&self) -> Result<bool, GroupError> {
        self.inner.raft.is_initialized().await.map_err(stopped)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.options.member.node
    }

    /// The incarnation of this node's data folder, to be registered: peers then refuse a node that has lost it.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.peers.fence().own()
    }

    /// Runs a closure over one consistent view of what is applied here. It must be short: it runs where it is called. It
    /// may be run twice, the first time with reads that fail since the state has moved on; what it was told the last
    /// time counts.
    pub fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
        self.inner.state.read_quickly(read).map_err(|error| KvError(error.to_string()))
    }

    /// Makes a write at whatever node leads, and waits until it is applied here (or only committed, if that takes over
    /// a second: then reads wait for it).
    pub async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        Proposing::new(&self.inner, proposal).run().await
    }

    /// Waits until this node has applied all that was committed anywhere when it was called.
    pub async fn barrier(&self, deadline: Instant) -> Result<Revision, BarrierError> {
        let index = self.inner.rounds.read_index(deadline).await.ok_or(BarrierError::NoQuorum)?;
        self.wait_applied(Revision(index), deadline).await?;
        Ok(Revision(index))
    }

    /// Waits for a first barrier after the start, through any number of failed ones.
    pub async fn wait_ready(&self, deadline: Instant) -> Result<Revision, BarrierError> {
        let mut mode = self.watch_mode();
        loop {
            match self.barrier(deadline).await {
                Err(BarrierError::NoQuorum) if Instant::now() < deadline => {}
                other => return other,
            }
            let reached = mode.wait_for(|mode| *mode == Mode::ReadWrite);
            let _ = tokio::time::timeout_at(deadline, reached).await;
        }
    }

    /// Waits until a revision is applied here, and whatever this node has answered before.
    pub async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError> {
        let wanted = revision.0.max(self.inner.floor.load(Ordering::Acquire));
        if self.inner.wait_index(wanted, deadline).await { Ok(()) } else { Err(BarrierError::Behind(Revision(wanted))) }
    }

    /// The newest revision applied here.
    pub fn applied(&self) -> Revision {
        Revision(*self.inner.applied.borrow())
    }

    /// Each revision that is applied here; some may be skipped.
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.clone()
    }

    /// How current this node's view is.
    pub fn freshness(&self) -> Freshness {
        self.inner.pulse.freshness(*self.inner.applied.borrow(), self.inner.floor.load(Ordering::Acquire))
    }

    /// Tells each change of the mode, at the moment that it happens.
    pub fn watch_mode(&self) -> watch::Receiver<Mode> {
        self.inner.pulse.watch_mode()
    }

    /// Grows by one with each snapshot that is installed: whoever caches what was read must forget it.
    pub fn generation(&self) -> u64 {
        self.inner.state.generation()
    }

    /// The state hash at a revision, if it is one of the newest.
    pub fn state_hash_at(&self, revision: Revision) -> Option<u128> {
        self.inner.state.hash_at(revision.0)
    }

    /// Reads the whole state and computes its hash from scratch, with the revision that was read. Takes as long as that
    /// takes.
    pub async fn recompute_hash(&self) -> Result<(Revision, u128), GroupError> {
        let state = self.inner.state.clone();
        let (revision, hash) =
            blocking(move || state.recompute_hash()).await.map_err(|e| GroupError::Refused(e.to_string()))?;
        Ok((Revision(revision), hash))
    }

    /// How this node is.
    pub fn status(&self) -> NodeStatus {
        let inner = &self.inner;
        let freshness = self.freshness();
        let (hash_revision, hash) = inner.state.state_hash();
        let metrics = inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        NodeStatus {
            node: inner.options.member.node,
            name: inner.options.member.name.to_string(),
            region: inner.options.member.region.to_string(),
            applied: freshness.applied,
            last_log: Revision(inner.log.last_index().unwrap_or(0)),
            first_log: Revision(inner.log.first_index().unwrap_or(0)),
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader.map(NodeId),
            mode: freshness.mode,
            staleness: freshness.staleness,
            pid: std::process::id(),
            state_hash: Some((Revision(hash_revision), hash)),
            feature_level: inner.options.feature_level,
        }
    }

    /// How this node is, with the state hash at a revision that it waits for.
    pub async fn status_at(&self, hash_at: Option<Revision>, deadline: Instant) -> NodeStatus {
        let Some(revision) = hash_at else { return self.status() };
        let applied = self.inner.wait_index(revision.0, deadline).await;
        let hash = if applied { self.state_hash_at(revision).map(|hash| (revision, hash)) } else { None };
        NodeStatus { state_hash: hash, ..self.status() }
    }

    /// Asks a member, or this node itself, how it is; with the state hash at a revision that it waits for.
    pub async fn node_status(
        &self,
        node: NodeId,
        hash_at: Option<Revision>,
        deadline: Instant,
    ) -> Result<NodeStatus, GroupError> {
        if node == self.inner.options.member.node {
            return Ok(self.status_at(hash_at, deadline).await);
        }
        let stranger = || GroupError::Unreachable { node, why: "it is not a member".to_owned() };
        let address = self.member_address(node).ok_or_else(stranger)?;
        self.ask_status(node, &address, hash_at, deadline).await
    }

    /// Whether a node that may not be a member yet remembers nothing of any group: no vote, no entry, no state.
    pub async fn is_new(&self, member: &Member, deadline: Instant) -> Result<bool, GroupError> {
        let status = self.ask_status(member.node, &member.grpc_address, None, deadline).await?;
        Ok((status.term, status.last_log, status.applied) == (0, Revision(0), Revision(0)))
    }

    async fn ask_status(
        &self,
        node: NodeId,
        address: &str,
        hash_at: Option<Revision>,
        deadline: Instant,
    ) -> Result<NodeStatus, GroupError> {
        let unreachable = |why: String| GroupError::Unreachable { node, why };
        let channel = self.inner.peers.channel(node.0, address, Lane::Read);
        let mut peer = MetadataClient::new(channel.map_err(|e| unreachable(e.to_string()))?);
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let request = StatusRequest {
            hash_at: hash_at.map_or(0, |revision| revision.0),
            timeout_ms: u64::try_from(left).unwrap_or(u64::MAX),
        };
        match tokio::time::timeout_at(deadline, peer.status(request)).await {
            Ok(Ok(status)) => Ok(NodeStatus::from_wire(status.into_inner())),
            Ok(Err(status)) => Err(unreachable(status.message().to_owned())),
            Err(_) => Err(unreachable("the deadline passed".to_owned())),
        }
    }

    /// Hands the lead over, and returns when the node leads. Only the leader can do that.
    pub async fn transfer_leader(&self, node: NodeId, deadline: Instant) -> Result<(), GroupError> {
        let mut metrics = self.inner.raft.server_metrics();
        let leader = metrics.borrow_watched().current_leader.map(NodeId);
        if leader == Some(node) {
            return Ok(());
        }
        if leader != Some(self.inner.options.member.node) {
            return Err(GroupError::NotLeader { leader });
        }
        if !self.inner.raft.voter_ids().any(|voter| voter == node.0) {
            return Err(GroupError::Refused(format!("node {node} has no vote")));
        }
        self.inner.raft.trigger().transfer_leader(node.0).await.map_err(stopped)?;
        while metrics.borrow_watched().current_leader != Some(node.0) {
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(GroupError::Deadline(format!("node {node} did not take the lead"))),
            }
        }
        Ok(())
    }

    /// The node that leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.raft.server_metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// Ends this node's part in the group: nothing is proposed, answered or applied after it. Stop the server before.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end well");
        }
        self.inner.tasks.wait().await;
    }

    fn member_address(&self, node: NodeId) -> Option<String> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&node.0).map(|peer| peer.grpc_address.clone())
    }
}

impl Inner {
    fn spawn(&self, batching: BatcherTask) {
        let cancel = || self.cancel.clone();
        let barrier = BarrierTask {
            raft: self.raft.clone(),
            peers: self.peers.clone(),
            rounds: self.rounds.clone(),
            leadership: self.leadership.clone(),
        };
        let (pulse, mode_cancel) = (self.pulse.clone(), cancel());
        self.watched("the batcher", batching.run(cancel()));
        self.watched("the barrier", barrier.run(cancel()));
        self.watched("the proof of leadership", self.leadership.clone().run(self.raft.clone(), cancel()));
        self.watched("the mode", async move { pulse.run(mode_cancel).await });
        self.tasks.spawn(upkeep::watch_for_failure(self.raft.clone(), self.options.on_fatal.clone(), cancel()));
        self.tasks.spawn(upkeep::bound_log(self.raft.clone(), self.log.clone(), self.options.retention, cancel()));
    }

    /// A task without which the node is of no use: it ends with the group, or the process does.
    fn watched(&self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (on_fatal, cancel, running) = (self.options.on_fatal.clone(), self.cancel.clone(), self.tasks.spawn(task));
        self.tasks.spawn(async move {
            let ended = running.await;
            if !cancel.is_cancelled() {
                on_fatal(&format!("{what} of consensus has ended: {ended:?}"));
            }
        });
    }

    /// Proposes for a peer, if this node leads.
    pub(crate) async fn propose_here(&self, entry: Entry, deadline: Instant) -> Answer {
        let envelope = &entry.envelope;
        if (envelope.cluster, envelope.epoch) != (self.options.cluster, self.options.epoch) {
            return Answer::refused_for_good("the command is meant for another cluster or epoch");
        }
        self.batcher.propose(entry, deadline).await
    }

    /// True when an index was applied here before the deadline.
    pub(crate) async fn wait_index(&self, index: u64, deadline: Instant) -> bool {
        let mut applied = self.applied.clone();
        let waited = tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Reads must see this index from now on: its write was answered.
    pub(crate) fn hold_reads_until(&self, index: u64) {
        self.floor.fetch_max(index, Ordering::AcqRel);
    }

    /// The newest revision applied here, and each after it.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }
}

fn peer_node(member: &Member) -> PeerNode {
    PeerNode {
        name: member.name.to_string(),
        region: member.region.to_string(),
        grpc_address: member.grpc_address.clone(),
    }
}

fn stopped(error: impl std::fmt::Display) -> GroupError {
    GroupError::Stopped(error.to_string())
}

//! A node that is killed at any step between receiving a snapshot and having installed it starts again, and ends where
//! the snapshot is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_storage::{Checkpoint, DataFolder, FolderIdentity, LogEntry, LogStore, Resources, StateStore};
use atoll_types::{ClusterId, NodeId};
use openraft::EntryPayload;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use tempfile::TempDir;
use tokio::sync::watch;

use super::testing::{log_id, membership};
use super::types::{Entry, LogId, Raft, StoredMembership, Vote};
use super::{Log, PurgeGuard, StateMachine, codec, describe, raft_config};
use crate::clock::{Stamper, SystemClock};
use crate::fence::Fence;
use crate::network::{Network, Peers};
use crate::options::{GroupOptions, Member};

const DEADLINE: Duration = Duration::from_secs(60);
/// What both logs share, and what is applied here.
const SHARED: u64 = 5;
/// Where the snapshot is: of term 3.
const SNAPSHOT: u64 = 12;

/// A node's two stores.
struct Node {
    log: Arc<LogStore>,
    state: Arc<StateStore>,
    fence: Arc<Fence>,
}

impl Node {
    /// Opens the stores; waits for the tasks of an earlier run to let go of the folder.
    async fn open(path: &Path) -> Self {
        let identity = FolderIdentity { cluster: None, node: NodeId(1), name: "n1".parse().expect("a name") };
        let deadline = Instant::now() + DEADLINE;
        let folder = loop {
            match DataFolder::open(path, &identity) {
                Ok(folder) => break folder,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        let resources = Resources::new(1 << 20, 4 << 20);
        let log = LogStore::open(&folder, &resources, |error| panic!("{error}")).expect("a log");
        let state = StateStore::open(&folder, &resources).expect("a state");
        let on_fatal = Arc::new(|why: &str| panic!("{why}"));
        let fence = Fence::new(NodeId(1), folder.incarnation(), on_fatal, "lost".to_owned());
        Self { log: Arc::new(log), state: Arc::new(state), fence: Arc::new(fence) }
    }

    fn parts(&self) -> (Log, StateMachine) {
        let applied = watch::Sender::new(self.state.revision());
        let guard = PurgeGuard { state: self.state.clone(), applied: applied.subscribe() };
        let stamper = Arc::new(Stamper::new(Arc::new(SystemClock::default())));
        let machine = StateMachine::new(self.state.clone(), applied, stamper, self.fence.clone());
        (Log::new(self.log.clone(), 1 << 20, Some(guard)), machine)
    }

    /// Appends entries of a term, and applies those up to an index.
    fn write(&self, term: u64, indices: std::ops::RangeInclusive<u64>, apply_to: u64) {
        let entries: Vec<Entry> = indices.map(|index| entry(term, index)).collect();
        let stored =
            entries.iter().map(|e| LogEntry { index: e.log_id.index(), data: codec::encode_entry(e) }).collect();
        self.log.append(stored, Box::new(|_| {})).expect("queued");
        self.log.flush().expect("durable");
        entries.iter().filter(|e| e.log_id.index() <= apply_to).for_each(|e| self.apply(e));
    }

    fn apply(&self, entry: &Entry) {
        let applied = self.state.apply_batch(|batch| {
            if let EntryPayload::Membership(membership) = &entry.payload {
                let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
                batch.set_membership(codec::encode_membership(&stored));
            }
            batch.entry_applied(entry.log_id.index(), codec::encode_log_id(&entry.log_id))
        });
        applied.expect("applied");
    }

    /// Takes a snapshot over, so that it could be installed.
    fn receive(&self, from: &Checkpoint) -> Arc<Checkpoint> {
        let mut receiver = self.state.receive(&from.manifest_bytes()).expect("a receiver");
        for file in receiver.progress() {
            let mut offset = file.received;
            while offset < file.size {
                let chunk = from.read_chunk(&file.name, offset, 1 << 20).expect("a chunk");
                receiver.write_chunk(&file.name, offset, &chunk.data, chunk.crc).expect("accepted");
                offset += chunk.data.len() as u64;
            }
        }
        receiver.finish().expect("verified")
    }

    fn truncate(&self, from: u64) {
        self.log.truncate_from(from, Box::new(|_| {})).expect("queued");
        self.log.flush().expect("durable");
    }
}

/// The first entry is the membership, as in any log.
fn entry(term: u64, index: u64) -> Entry {
    let payload = match index {
        0 => EntryPayload::Membership(membership(&[1, 2, 3], &[])),
        _ => EntryPayload::Blank,
    };
    Entry { log_id: log_id(term, index), payload }
}

/// The snapshot of a leader of term 3.
async fn leaders_snapshot(dir: &TempDir) -> Arc<Checkpoint> {
    let leader = Node::open(dir.path()).await;
    leader.write(1, 0..=SHARED, SHARED);
    leader.write(3, SHARED + 1..=SNAPSHOT, SNAPSHOT);
    leader.state.create_checkpoint().expect("a snapshot")
}

/// A follower with a tail of term 2 that nobody committed, up to an index.
async fn follower(tail: u64) -> (TempDir, Node) {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::open(dir.path()).await;
    node.write(1, 0..=SHARED, SHARED);
    node.write(2, SHARED + 1..=tail, SHARED);
    let vote = codec::encode_vote(&Vote::new_committed(2, 2));
    node.log.save_vote(vote, Box::new(|_| {})).expect("queued");
    node.log.save_committed(codec::encode_log_id(&log_id(1, SHARED))).expect("queued");
    node.log.flush().expect("durable");
    (dir, node)
}

/// Where a node is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// The snapshot is here and verified; nothing was done with it.
    Received,
    /// The tail that contradicts the snapshot is gone.
    Truncated,
    /// The new database is half made.
    Copying,
    /// The new database counts, and nothing else knows.
    Switched,
    /// All but the log's purge is done.
    Installed,
}

fn kill_at(kill: Kill, node: Node, arrived: &Arc<Checkpoint>, data: &Path) {
    let marker = data.join("snapshots").join(&arrived.manifest().id).join("arrived");
    if !matches!(kill, Kill::Received) {
        node.truncate(SHARED + 1);
    }
    match kill {
        Kill::Received | Kill::Truncated => {}
        Kill::Copying => {
            let half = data.join("state/db-2");
            std::fs::create_dir(&half).expect("a folder");
            std::fs::write(half.join("000001.sst"), "half").expect("a file");
        }
        Kill::Switched => {
            node.state.install(arrived).expect("installed");
            std::fs::write(&marker, "").expect("as before the last step");
        }
        Kill::Installed => node.state.install(arrived).expect("installed"),
    }
}

async fn start(node: &Node) -> Raft {
    let member = Member {
        node: NodeId(1),
        name: "n1".parse().expect("a name"),
        region: "here".parse().expect("a name"),
        // Nobody listens there: the node stays alone.
        grpc_address: "127.0.0.1:9".to_owned(),
    };
    let options = GroupOptions::new(ClusterId::random(), 0, member, Arc::new(|why| panic!("{why}")));
    let (log, machine) = node.parts();
    let network = Network::new(Arc::new(Peers::new(&options, node.fence.clone())), 1);
    let config = raft_config(&options).expect("valid options");
    Raft::new(1, config, network, log, machine).await.expect("the node starts")
}

/// What openraft asks of the stores, and what it would stop at.
async fn assert_in_order(node: &Node) {
    let (mut log, mut machine) = node.parts();
    let logs = log.get_log_state().await.expect("readable");
    let (applied, _) = machine.applied_state().await.expect("readable");
    let snapshot = machine.get_current_snapshot().await.expect("readable").and_then(|s| s.meta.last_log_id);
    let committed = log.read_committed().await.expect("readable");
    let order: [Option<LogId>; 4] = [logs.last_purged_log_id, snapshot, applied, logs.last_log_id];
    assert!(order.is_sorted(), "purged, snapshot, applied, last: {order:?}");
    assert!(committed <= logs.last_log_id, "{committed:?} is committed, the log ends at {:?}", logs.last_log_id);
}

async fn survives(kill: Kill, tail: u64) {
    let leader_dir = tempfile::tempdir().expect("a folder");
    let snapshot = leaders_snapshot(&leader_dir).await;
    let (dir, node) = follower(tail).await;
    let arrived = node.receive(&snapshot);
    kill_at(kill, node, &arrived, dir.path());
    drop(arrived);

    let node = Node::open(dir.path()).await;
    let raft = start(&node).await;
    assert_in_order(&node).await;
    // The leader begins anew, and has nothing to send.
    let receiver = node.state.receive(&snapshot.manifest_bytes()).expect("a receiver");
    assert!(receiver.progress().iter().all(|file| file.received == file.size), "{kill:?}: sent twice");
    drop(receiver);
    let again = node.receive(&snapshot);
    let installed = raft.install_full_snapshot(Vote::new_committed(3, 2), describe(again).expect("described")).await;
    installed.expect("installed");
    raft.shutdown().await.expect("it ends");
    assert_eq!(node.state.revision(), SNAPSHOT);
    assert_in_order(&node).await;
    drop((raft, node));

    let node = Node::open(dir.path()).await;
    let raft = start(&node).await;
    assert_in_order(&node).await;
    assert_eq!(node.state.revision(), SNAPSHOT);
    assert_eq!(node.state.current_checkpoint().expect("it counts").manifest().id, snapshot.manifest().id);
    let end = node.parts().0.get_log_state().await.expect("readable").last_log_id;
    assert_eq!(end, Some(log_id(3, SNAPSHOT)), "nothing is left of the tail");
    raft.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_the_install_is_survived() {
    // Tails that end before the snapshot, with it, and far beyond it.
    for tail in [8, SNAPSHOT, 200] {
        survives(Kill::Received, tail).await;
        survives(Kill::Truncated, tail).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_midst_of_the_install_is_survived() {
    for tail in [8, 200] {
        survives(Kill::Copying, tail).await;
        survives(Kill::Switched, tail).await;
        survives(Kill::Installed, tail).await;
    }
}

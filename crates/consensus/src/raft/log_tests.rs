//! Reading and purging the log as openraft does.

use std::sync::Arc;

use atoll_storage::{DataFolder, FolderIdentity, LogEntry, LogStore, Resources, StateStore};
use atoll_types::NodeId;
use futures::StreamExt;
use openraft::storage::RaftLogStorage;
use openraft::{EntryPayload, RaftLogReader};
use tempfile::TempDir;
use tokio::sync::watch;

use super::testing::log_id;
use super::types::{EncodedEntry, Entry};
use super::{Log, PurgeGuard, codec};

struct Stores {
    _dir: TempDir,
    log: Arc<LogStore>,
    state: Arc<StateStore>,
    applied: watch::Sender<u64>,
}

impl Stores {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let identity = FolderIdentity { cluster: None, node: NodeId(1), name: "n1".parse().expect("a name") };
        let folder = DataFolder::open(dir.path(), &identity).expect("a data folder");
        let resources = Resources::new(1 << 20, 4 << 20);
        let log = LogStore::open(&folder, &resources, |error| panic!("{error}")).expect("a log");
        let state = StateStore::open(&folder, &resources).expect("a state");
        Self { _dir: dir, log: Arc::new(log), state: Arc::new(state), applied: watch::Sender::new(0) }
    }

    fn reader(&self) -> Log {
        let guard = PurgeGuard { state: self.state.clone(), applied: self.applied.subscribe() };
        Log::new(self.log.clone(), 1 << 20, Some(guard))
    }

    fn append(&self, entries: impl Iterator<Item = Entry>) {
        let stored = entries.map(|e| LogEntry { index: e.log_id.index(), data: codec::encode_entry(&e) });
        self.log.append(stored.collect(), Box::new(|_| {})).expect("queued");
        self.log.flush().expect("written");
    }

    /// Purges as after a snapshot, without asking the state.
    fn purge(&self, index: u64) {
        let id = codec::encode_log_id(&log_id(1, index));
        self.log.purge_to(index, id, Box::new(|_| {})).expect("queued");
        self.log.flush().expect("written");
    }

    fn apply(&self, revision: u64) {
        let id = codec::encode_log_id(&log_id(1, revision));
        self.state.apply_batch(|batch| batch.entry_applied(revision, id)).expect("applied");
        self.applied.send_replace(revision);
    }
}

fn blank(index: u64) -> Entry {
    Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }
}

fn indices<E: std::fmt::Debug>(entries: Vec<Result<Entry, E>>) -> Vec<u64> {
    entries.into_iter().map(|entry| entry.expect("an entry").log_id.index()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_read_in_pages_bounded_in_entries() {
    let stores = Stores::new();
    stores.append((0..1_200).map(blank));
    let mut reader = stores.reader();
    let all: Vec<_> = reader.entries_stream(0..1_200).await.collect().await;
    assert_eq!(indices(all), (0..1_200).collect::<Vec<_>>());
    let beyond: Vec<_> = reader.entries_stream(1_190..5_000).await.collect().await;
    assert_eq!(indices(beyond), (1_190..1_200).collect::<Vec<_>>());

    // What is purged behind the reader's back shows how far it has read ahead.
    let mut entries = Box::pin(reader.entries_stream(0..1_200).await);
    entries.next().await.expect("one").expect("an entry");
    stores.purge(1_100);
    let rest: Vec<_> = entries.collect().await;
    let error = rest.last().expect("more").as_ref().expect_err("a gap is an error, not an end").to_string();
    assert!(error.contains("purged"), "{error}");
    assert!(rest.len() <= 512, "{} entries were read ahead", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_read_in_pages_bounded_in_bytes() {
    let stores = Stores::new();
    let large = |index| {
        let bytes = EncodedEntry(vec![7; 1 << 20].into());
        Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(bytes) }
    };
    for index in 0..16 {
        stores.append(std::iter::once(large(index)));
    }
    let mut reader = stores.reader();
    let mut entries = Box::pin(reader.entries_stream(0..16).await);
    entries.next().await.expect("one").expect("an entry");
    stores.purge(14);
    let rest: Vec<_> = entries.collect().await;
    assert!(rest.last().expect("more").is_err());
    assert!(rest.len() <= 4, "{} MiB were read ahead", rest.len());
    let all: Vec<_> = reader.entries_stream(15..16).await.collect().await;
    assert_eq!(indices(all), [15]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_read_below_a_purge_is_what_openraft_expects() {
    let stores = Stores::new();
    stores.append((0..10).map(blank));
    stores.purge(4);
    let mut reader = stores.reader();
    // Its contract: entries that were purged may lack at the beginning.
    let found = reader.try_get_log_entries(0..8).await.expect("readable");
    assert_eq!(found.iter().map(|e| e.log_id.index()).collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(reader.try_get_log_entries(2..4).await.expect("readable"), []);
    // What is applied must be there.
    let applied: Vec<_> = reader.entries_stream(4..8).await.collect().await;
    assert_eq!(applied.len(), 1);
    applied[0].as_ref().expect_err("the state would miss an entry");
    // What goes to a peer follows the entry before it without a gap, or nothing goes. An error would end this node, and
    // a former leader's last read may well come after the purge of an install.
    assert_eq!(reader.limited_get_log_entries(4, 8).await.expect("readable"), []);
    assert_eq!(reader.limited_get_log_entries(5, 8).await.expect("readable").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_only_below_what_the_state_has_and_a_snapshot_covers() {
    let stores = Stores::new();
    stores.append((0..10).map(blank));
    stores.apply(5);
    let mut log = stores.reader();
    let mut purge = Box::pin(log.purge(log_id(1, 8)));
    assert!(futures::poll!(&mut purge).is_pending());
    stores.apply(7);
    assert!(futures::poll!(&mut purge).is_pending(), "the state is at 7");
    assert_eq!(stores.log.purged(), None);
    stores.apply(8);
    tokio::time::timeout(std::time::Duration::from_secs(60), purge).await.expect("in time").expect("purged");
    assert_eq!(stores.log.first_index(), Some(9));
    let snapshot = stores.state.current_checkpoint().expect("peers that lack the entries need it");
    assert!(snapshot.applied().revision >= 8);
}

//! What the tests of this crate share.

use std::path::Path;
use std::time::Duration;

use atoll_metadata::{Family, Kv, KvRead};
use atoll_types::NodeId;

use crate::{DataFolder, FolderIdentity, Resources, StateStore};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A node's data folder.
pub(crate) fn folder(path: &Path) -> DataFolder {
    let identity = FolderIdentity { cluster: None, node: NodeId(1), name: "n".parse().expect("a name") };
    DataFolder::open(path, &identity).expect("a folder")
}

pub(crate) fn small() -> Resources {
    Resources::new(1 << 20, 4 << 20)
}

pub(crate) fn state(folder: &DataFolder) -> StateStore {
    StateStore::open(folder, &small()).expect("a state")
}

/// Applies one entry that sets some keys.
pub(crate) fn put(store: &StateStore, revision: u64, pairs: &[(&str, &str)]) {
    let applied = store.apply_batch(|batch| {
        for (key, value) in pairs {
            batch.kv().put(Family::State, key.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        batch.entry_applied(revision, log_id(revision))
    });
    applied.expect("applied");
}

pub(crate) fn log_id(revision: u64) -> Vec<u8> {
    format!("t1-{revision}").into_bytes()
}

pub(crate) fn get(store: &StateStore, key: &str) -> Option<String> {
    let value = store.read(|view| view.get(Family::State, key.as_bytes()).expect("readable")).expect("a view");
    value.map(|bytes| String::from_utf8(bytes).expect("text"))
}

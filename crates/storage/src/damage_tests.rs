//! What was never written, where the log, the state or the folder keep theirs, makes no parser panic.

use std::path::Path;

use proptest::prelude::*;

use crate::testing::{folder, small, state};
use crate::tuning::{LOG_ENTRIES, LOG_META, STATE_RAFT};
use crate::{DataFolder, LogStore, StateStore, StorageError, tuning};

/// Opens a log in whose database somebody put a value.
fn open_with(path: &Path, family: &str, key: &[u8], value: &[u8]) -> Result<LogStore, StorageError> {
    let folder = folder(path);
    drop(LogStore::open(&folder, &small(), |_| {})?);
    let db = tuning::open_log(&folder.log_dir(), &small()).expect("a database");
    db.put_cf(db.cf_handle(family).expect("a family"), key, value).expect("written");
    drop(db);
    LogStore::open(&folder, &small(), |_| {})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn no_purged_id_makes_the_log_panic(value: Vec<u8>, extreme: bool) {
        let dir = tempfile::tempdir().expect("a folder");
        let value = if extreme { [&[0xff; 8], value.as_slice()].concat() } else { value };
        if let Ok(log) = open_with(dir.path(), LOG_META, b"purged", &value) {
            let _ = (log.last(), log.purged(), log.read(0, u64::MAX, 1 << 20), log.first_index());
        }
    }

    #[test]
    fn no_key_makes_the_log_panic(key in proptest::collection::vec(any::<u8>(), 1..12), value: Vec<u8>) {
        let dir = tempfile::tempdir().expect("a folder");
        if let Ok(log) = open_with(dir.path(), LOG_ENTRIES, &key, &value) {
            let _ = (log.last(), log.purged(), log.read(0, u64::MAX, 1 << 20), log.first_index());
        }
    }

    #[test]
    fn no_position_makes_the_state_panic(value: Vec<u8>) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = folder(dir.path());
        drop(state(&folder));
        let db = tuning::open_state(&folder.state_dir().join("db-1"), &small()).expect("a database");
        db.put_cf(db.cf_handle(STATE_RAFT).expect("a family"), b"position", &value).expect("written");
        drop(db);
        if let Ok(state) = StateStore::open(&folder, &small()) {
            let _ = (state.applied(), state.read(|view| view.revision()));
        }
    }

    #[test]
    fn no_pointer_and_no_marker_make_a_start_panic(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().expect("a folder");
        let ours = folder(dir.path());
        std::fs::write(ours.state_dir().join("CURRENT"), &bytes).expect("written");
        let _ = StateStore::open(&ours, &small());
        std::fs::write(dir.path().join("atoll.json"), &bytes).expect("written");
        let _ = DataFolder::peek(dir.path());
    }
}

//! What stands on the disk, to the byte: a layout that has landed only grows.

use rocksdb::{DB, IteratorMode};

use crate::testing::{folder, put, small, state};
use crate::tuning::{LOG_ENTRIES, LOG_META, STATE_RAFT};
use crate::{LogEntry, LogStore, Marker, tuning};

/// All pairs of a family as lines of hexadecimal digits.
fn dump(db: &DB, family: &str) -> Vec<String> {
    let pairs = db.iterator_cf(db.cf_handle(family).expect("a family"), IteratorMode::Start);
    let line = |(key, value): (Box<[u8]>, Box<[u8]>)| {
        format!("{family} {}: {}", const_hex::encode(key), const_hex::encode(value)).trim_end().to_owned()
    };
    pairs.map(|pair| line(pair.expect("readable"))).collect()
}

fn assert_landed(landed: &str, found: &[String]) {
    assert_eq!(found, landed.lines().collect::<Vec<_>>(), "on the disk now:\n{}\n", found.join("\n"));
}

fn entry(index: u64) -> LogEntry {
    LogEntry { index, data: format!("entry {index}").into() }
}

#[test]
fn the_log_is_stored_as_it_landed() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let written = LogStore::open(&folder, &small(), |error| panic!("{error}")).expect("a log");
    written.append((0..4).chain(4..300).map(entry).collect(), Box::new(|_| {})).expect("queued");
    written.save_vote(b"a vote".to_vec(), Box::new(|_| {})).expect("queued");
    written.save_committed(b"committed".to_vec()).expect("queued");
    written.purge_to(296, b"purged".to_vec(), Box::new(|_| {})).expect("queued");
    drop(written);
    let db = tuning::open_log(&folder.log_dir(), &small()).expect("a database");
    let found = [dump(&db, LOG_META), dump(&db, LOG_ENTRIES)].concat();
    assert_landed(include_str!("golden/log.txt"), &found);
}

#[test]
fn how_far_the_state_has_come_is_stored_as_it_landed() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let written = state(&folder);
    put(&written, 300, &[("a", "1")]);
    let membership = written.apply_batch(|batch| {
        batch.set_membership(b"three voters".to_vec());
        batch.entry_applied(301, b"t1-301".to_vec())
    });
    membership.expect("applied");
    let snapshot = written.create_checkpoint().expect("a snapshot");
    let manifest = String::from_utf8(snapshot.manifest_bytes().to_vec()).expect("text");
    drop((written, snapshot));
    let db = tuning::open_state(&folder.state_dir().join("db-1"), &small()).expect("a database");
    assert_landed(include_str!("golden/state.txt"), &dump(&db, STATE_RAFT));
    // Of the manifest, what is not random.
    let fixed =
        |line: &&str| ["format", "revision", "log_id", "membership", "state_hash"].iter().any(|f| line.contains(f));
    let found: Vec<String> = manifest.lines().filter(fixed).map(str::to_owned).collect();
    assert_landed(include_str!("golden/manifest.txt"), &found);
}

#[test]
fn a_marker_that_landed_is_read() {
    let landed = include_str!("golden/marker.json");
    let marker: Marker = serde_json::from_str(landed).expect("a marker");
    assert_eq!(serde_json::to_string_pretty(&marker).expect("encoded"), landed.trim_end());
}

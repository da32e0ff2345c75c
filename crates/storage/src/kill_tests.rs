//! A process that writes is killed at some moment, again and again: what it acknowledged is there, and state, log and
//! snapshots fit each other.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use crate::{DataFolder, FolderIdentity, LogEntry, LogStore, Resources, StateStore};
use atoll_metadata::{Family, Kv};
use atoll_types::NodeId;

const FOLDER: &str = "ATOLL_TEST_KILL_FOLDER";
/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 40;

fn open(path: &Path) -> (LogStore, StateStore) {
    let identity = FolderIdentity { cluster: None, node: NodeId(1), name: "n".parse().expect("a name") };
    let folder = DataFolder::open(path, &identity).expect("the folder opens after a kill");
    let resources = Resources::new(1 << 20, 4 << 20);
    let log = LogStore::open(&folder, &resources, |_| std::process::abort()).expect("the log opens after a kill");
    let state = StateStore::open(&folder, &resources).expect("the state opens after a kill");
    (log, state)
}

fn data(index: u64) -> Vec<u8> {
    format!("entry {index} ").repeat(1 + (index % 50) as usize).into_bytes()
}

fn log_id(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// Applies entries up to an index, as they stand in the log.
fn apply(log: &LogStore, state: &StateStore, to: u64) {
    let from = state.revision() + 1;
    let entries = log.read(from, to + 1, usize::MAX).expect("readable");
    assert_eq!(entries.first().map_or(from, |e| e.index), from, "the log was purged above the state");
    let applied = state.apply_batch(|batch| {
        for entry in &entries {
            batch.kv().put(Family::State, log_id(entry.index % 16), entry.data.to_vec());
            batch.kv().delete(Family::State, log_id(entry.index % 7));
            batch.entry_applied(entry.index, log_id(entry.index))?;
        }
        Ok(())
    });
    applied.expect("applied");
}

/// Writes until it is killed, and tells each index that is durable.
fn write_until_killed(path: &Path) -> ! {
    let (log, state) = open(path);
    let mut index = log.last_index().or(log.purged().map(|(i, _)| i)).unwrap_or(0);
    loop {
        index += 1;
        let (done, durable) = channel();
        let entry = LogEntry { index, data: data(index).into() };
        log.append(vec![entry], Box::new(move |r| done.send(r).expect("the test waits"))).expect("queued");
        durable.recv().expect("an answer").expect("durable");
        let mut out = std::io::stdout().lock();
        writeln!(out, "durable {index}").and_then(|()| out.flush()).expect("the parent listens");
        apply(&log, &state, index);
        if index.is_multiple_of(SNAPSHOT_EVERY) {
            let made = state.create_checkpoint().expect("a snapshot");
            // Installing one's own snapshot goes through every step of a switch.
            state.install(&made).expect("installed");
            log.purge_to(index - SNAPSHOT_EVERY / 2, log_id(index), Box::new(|r| r.expect("purged"))).expect("queued");
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    // The process that is killed is this test again.
    if let Ok(path) = std::env::var(FOLDER) {
        write_until_killed(Path::new(&path));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut durable = 0;
    for round in 0..8 {
        durable = run_and_kill(dir.path(), durable + 17 + 31 * round);
        let (log, state) = open(dir.path());
        let last = log.last_index().expect("entries");
        assert!(last >= durable, "entry {durable} was acknowledged and the log ends at {last}");
        let first = log.first_index().expect("entries");
        for entry in log.read(first, u64::MAX, usize::MAX).expect("no hole") {
            assert_eq!(entry.data, data(entry.index));
        }
        assert!(state.revision() <= last, "the state is ahead of the log");
        assert_eq!(state.recompute_hash().expect("readable"), state.state_hash(), "round {round}");
        apply(&log, &state, last);
        assert_eq!(state.recompute_hash().expect("readable"), state.state_hash(), "round {round}");
        if let Some(snapshot) = state.current_checkpoint() {
            snapshot.verify().expect("a snapshot that is offered is whole");
        }
        durable = last;
    }
    let (_, state) = open(dir.path());
    assert!(state.current_checkpoint().is_some(), "no snapshot was ever made");
}

/// Runs the writer until it has told an index, kills it, and returns the last index that it told.
fn run_and_kill(path: &Path, until: u64) -> u64 {
    let mut writer = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kill_tests::what_was_acknowledged_survives_a_kill", "--nocapture"])
        .env(FOLDER, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut told = 0;
    for line in BufReader::new(writer.stdout.take().expect("its output")).lines() {
        let line = line.expect("text");
        if let Some(index) = line.strip_prefix("durable ") {
            told = index.parse().expect("a number");
        }
        if told == until {
            // The rest of what it told is still in the pipe, and counts.
            writer.kill().expect("killed");
        }
    }
    writer.wait().expect("gone");
    assert!(told >= until, "the writer ended by itself at {told}");
    told
}

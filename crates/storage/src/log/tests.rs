use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::*;

use super::*;
use crate::testing::{DEADLINE, folder};

fn open(folder: &DataFolder) -> LogStore {
    LogStore::open(folder, &Resources::new(1 << 20, 4 << 20), |_| {}).expect("a log")
}

fn entry(index: u64, text: &str) -> LogEntry {
    LogEntry { index, data: Bytes::from(format!("{index}:{text}")) }
}

fn entries(range: std::ops::Range<u64>, text: &str) -> Vec<LogEntry> {
    range.map(|index| entry(index, text)).collect()
}

fn done() -> (LogDone, Receiver<std::io::Result<()>>) {
    let (send, receive) = channel();
    (Box::new(move |result| drop(send.send(result))), receive)
}

fn ignore() -> LogDone {
    Box::new(|_| {})
}

/// All that is there.
fn all(log: &LogStore) -> Vec<LogEntry> {
    log.purged().map_or_else(|| all_from(log, 0), |(purged, _)| all_after(log, purged))
}

fn all_after(log: &LogStore, purged: u64) -> Vec<LogEntry> {
    all_from(log, purged + 1)
}

fn all_from(log: &LogStore, from: u64) -> Vec<LogEntry> {
    log.read(from, u64::MAX, usize::MAX).expect("entries")
}

#[test]
fn what_is_queued_is_read_at_once_and_survives_a_reopen() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let log = open(&folder);
    assert_eq!((log.first_index(), log.last_index(), log.last().expect("none")), (None, None, None));
    let (ack, written) = done();
    log.append(entries(0..10, "a"), ack).expect("queued");
    assert_eq!(all(&log), entries(0..10, "a"));
    written.recv_timeout(DEADLINE).expect("an answer").expect("durable");
    assert_eq!(all(&log), entries(0..10, "a"));

    log.save_vote(b"vote".to_vec(), ignore()).expect("queued");
    log.save_committed(b"committed".to_vec()).expect("queued");
    drop(log);
    let log = open(&folder);
    assert_eq!(all(&log), entries(0..10, "a"));
    assert_eq!(log.last().expect("one"), Some(entry(9, "a")));
    assert_eq!((log.vote(), log.committed()), (Some(b"vote".to_vec()), Some(b"committed".to_vec())));
    assert_eq!((log.first_index(), log.last_index()), (Some(0), Some(9)));
    assert_eq!(log.read(3, 5, usize::MAX).expect("two"), entries(3..5, "a"));
    assert_eq!(log.read(8, 100, usize::MAX).expect("the end"), entries(8..10, "a"));
    assert_eq!(log.read(10, 20, usize::MAX).expect("nothing"), []);
    assert!(log.bytes() > 0);
}

#[test]
fn a_read_is_bounded_in_bytes_but_yields_one_at_least() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(&folder(dir.path()));
    log.append(entries(1..10, "0123456789"), ignore()).expect("queued");
    for _ in 0..2 {
        assert_eq!(log.read(1, 10, 0).expect("one").len(), 1);
        assert_eq!(log.read(1, 10, 25).expect("two").len(), 2, "12 bytes each");
        assert_eq!(log.read(1, 10, usize::MAX).expect("all").len(), 9);
        log.flush().expect("written"); // first from the queue, then from the database
    }
}

#[test]
fn a_hole_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(&folder(dir.path()));
    log.append(entries(5..7, "a"), ignore()).expect("any index may come first");
    let late = log.append(vec![entry(8, "a")], ignore()).expect_err("a hole");
    assert!(late.to_string().contains("entry 8 is appended where 7 is due"), "{late}");
    log.append(vec![entry(6, "a")], ignore()).expect_err("a second 6");
    log.append(vec![entry(7, "a"), entry(9, "a")], ignore()).expect_err("a hole inside");
    assert_eq!(all(&log), entries(5..7, "a"), "a refused append leaves nothing");
}

#[test]
fn a_purge_is_kept_and_moves_the_log_beyond_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let log = open(&folder);
    log.append(entries(0..10, "a"), ignore()).expect("queued");
    log.purge_to(3, b"t1-3".to_vec(), ignore()).expect("queued");
    assert_eq!(all(&log), entries(4..10, "a"));
    log.purge_to(2, b"t1-2".to_vec(), ignore()).expect("changes nothing");
    assert_eq!(log.purged(), Some((3, b"t1-3".to_vec())));
    log.truncate_from(3, ignore()).expect_err("purged");

    log.purge_to(20, b"t2-20".to_vec(), ignore()).expect("as after a snapshot's install");
    assert_eq!((log.first_index(), log.last_index()), (None, None));
    drop(log);
    let log = open(&folder);
    assert_eq!(log.purged(), Some((20, b"t2-20".to_vec())));
    log.append(vec![entry(22, "b")], ignore()).expect_err("a hole after the purge");
    log.append(vec![entry(21, "b")], ignore()).expect("follows the purge");
    assert_eq!(all(&log), entries(21..22, "b"));
}

#[test]
fn a_read_of_what_was_purged_is_an_error_and_not_a_gap() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(&folder(dir.path()));
    log.append(entries(0..10, "a"), ignore()).expect("queued");
    log.purge_to(3, b"t1-3".to_vec(), ignore()).expect("queued");
    // First from the queue, then from the database.
    for _ in 0..2 {
        for (from, to) in [(0, 10), (3, 5), (0, 2), (3, u64::MAX)] {
            let error = log.read(from, to, usize::MAX).expect_err("purged").to_string();
            assert!(error.contains("purged up to 3"), "{error}");
        }
        assert_eq!(log.read(4, 10, usize::MAX).expect("all of them"), entries(4..10, "a"));
        assert_eq!(log.read(2, 2, usize::MAX).expect("nothing is asked for"), []);
        log.flush().expect("written");
    }
    log.purge_to(9, b"t1-9".to_vec(), ignore()).expect("queued");
    assert_eq!(log.last().expect("an empty log"), None);
}

#[test]
fn a_lower_purge_never_reaches_the_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let log = open(&folder);
    log.append(entries(0..10, "a"), ignore()).expect("queued");
    log.purge_to(5, b"t1-5".to_vec(), ignore()).expect("queued");
    for lower in [5, 4, 0] {
        let (ack, answer) = done();
        log.purge_to(lower, b"another".to_vec(), ack).expect("queued");
        answer.recv_timeout(DEADLINE).expect("an answer").expect("nothing to do");
    }
    drop(log);
    let log = open(&folder);
    assert_eq!(log.purged(), Some((5, b"t1-5".to_vec())));
    assert_eq!(all_after(&log, 5), entries(6..10, "a"));
}

#[test]
fn answers_come_in_the_order_of_the_calls_and_share_syncs() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(&folder(dir.path()));
    let (send, receive) = channel();
    for index in 0..500 {
        let send = send.clone();
        log.append(vec![entry(index, "a")], Box::new(move |r| send.send((index, r.is_ok())).expect("the test waits")))
            .expect("queued");
    }
    for index in 0..500 {
        assert_eq!(receive.recv_timeout(DEADLINE).expect("an answer"), (index, true));
    }
    let stats = log.stats();
    assert_eq!(stats.entries, 500);
    assert!(stats.batches < 500, "no group commit: {} batches", stats.batches);
    assert_eq!(stats.queued_bytes, 0);
}

#[test]
fn a_full_queue_makes_appends_wait_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(&folder(dir.path()));
    let data = Bytes::from(vec![7; 3 << 20]);
    for index in 0..16 {
        log.append(vec![LogEntry { index, data: data.clone() }], ignore()).expect("queued");
        assert!(log.stats().queued_bytes <= LogStore::QUEUE_BYTES_MAX as u64);
    }
    log.flush().expect("written");
    assert_eq!(log.last_index(), Some(15));
    let huge = LogEntry { index: 16, data: Bytes::from(vec![7; LogStore::QUEUE_BYTES_MAX + 1]) };
    log.append(vec![huge], ignore()).expect("let in alone");
}

#[test]
fn a_failed_write_is_final() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let (fatal, fatal_seen) = channel();
    let log = LogStore::open(&folder, &Resources::default(), move |e| drop(fatal.send(e.to_string()))).expect("a log");
    log.append(entries(0..3, "a"), ignore()).expect("queued");
    log.flush().expect("written");
    log.shared.disk_is_broken(true);
    let (ack, answer) = done();
    log.append(entries(3..5, "a"), ack).expect("queued");
    answer.recv_timeout(DEADLINE).expect("an answer").expect_err("not durable");
    assert!(fatal_seen.recv_timeout(DEADLINE).expect("the hook was called").contains("broken by the test"));

    log.shared.disk_is_broken(false);
    let refused = log.append(entries(5..6, "a"), ignore()).expect_err("never tried again");
    assert!(matches!(refused, StorageError::Failed(_)), "{refused}");
    log.save_vote(vec![1], ignore()).expect_err("never tried again");
    log.flush().expect_err("never tried again");
    drop(log);
    assert_eq!(all(&open(&folder)), entries(0..3, "a"), "what was acknowledged is there");
}

#[test]
fn a_callback_that_panics_ends_the_log_and_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a folder");
    let (fatal, fatal_seen) = channel();
    let on_fatal = move |e: &StorageError| drop(fatal.send(e.to_string()));
    let log = LogStore::open(&folder(dir.path()), &Resources::default(), on_fatal).expect("a log");
    log.append(entries(0..3, "a"), Box::new(|_| panic!("meant by the test"))).expect("queued");
    assert!(fatal_seen.recv_timeout(DEADLINE).expect("the hook was called").contains("panicked"));
    log.append(entries(3..5, "a"), ignore()).expect_err("refused");
    log.flush().expect_err("refused");
}

#[test]
fn damage_in_what_was_acknowledged_does_not_pass_silently() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let log = open(&folder);
    for index in 0..20 {
        log.append(vec![entry(index, &"x".repeat(5_000))], ignore()).expect("queued");
        log.flush().expect("written");
    }
    drop(log);
    let wal = crate::durable::list(&folder.log_dir()).expect("files").into_iter().filter(|n| n.ends_with(".log"));
    let wal = wal.map(|n| folder.log_dir().join(n)).max_by_key(|p| p.metadata().expect("a file").len()).expect("one");
    let mut bytes = std::fs::read(&wal).expect("the write-ahead log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&wal, bytes).expect("damaged");
    let opened = LogStore::open(&folder, &Resources::default(), |_| {});
    assert!(opened.is_err(), "acknowledged entries were dropped without a word");
}

impl Shared {
    fn disk_is_broken(&self, broken: bool) {
        self.disk.broken.store(broken, Ordering::SeqCst);
    }
}

/// One step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    TruncateBack(u8),
    PurgeFront(u8),
    Vote(u8),
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..20_u8).prop_map(Step::Append),
        2 => (0..15_u8).prop_map(Step::TruncateBack),
        1 => (0..15_u8).prop_map(Step::PurgeFront),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

/// The log as a map.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, LogEntry>,
    next: u64,
    purged: Option<(u64, Vec<u8>)>,
    vote: Option<Vec<u8>>,
}

impl Model {
    fn run(&mut self, number: usize, step: &Step, log: &LogStore) -> Result<()> {
        match step {
            Step::Append(count) => {
                let list = entries(self.next..self.next + u64::from(*count), &number.to_string());
                self.next += u64::from(*count);
                self.entries.extend(list.iter().map(|e| (e.index, e.clone())));
                log.append(list, ignore())
            }
            Step::TruncateBack(count) => {
                let from = self.next.saturating_sub(u64::from(*count)).max(self.first());
                self.entries.retain(|index, _| *index < from);
                self.next = self.next.min(from);
                log.truncate_from(from, ignore())
            }
            Step::PurgeFront(count) => {
                let to = self.first() + u64::from(*count);
                self.entries.retain(|index, _| *index > to);
                self.next = self.next.max(to + 1);
                self.purged = Some((to, vec![*count]));
                log.purge_to(to, vec![*count], ignore())
            }
            Step::Vote(vote) => {
                self.vote = Some(vec![*vote]);
                log.save_vote(vec![*vote], ignore())
            }
            Step::Flush => log.flush(),
            Step::Reopen => Ok(()),
        }
    }

    fn first(&self) -> u64 {
        self.purged.as_ref().map_or(0, |(index, _)| index + 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_log_is_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = folder(dir.path());
        let mut log = open(&folder);
        let mut model = Model::default();
        for (number, step) in steps.iter().enumerate() {
            if matches!(step, Step::Reopen) {
                drop(log);
                log = open(&folder);
            }
            model.run(number, step, &log).expect("a valid step");
            prop_assert_eq!(all(&log), model.entries.values().cloned().collect::<Vec<_>>());
            prop_assert_eq!(log.last().expect("readable"), model.entries.values().last().cloned());
            prop_assert_eq!(log.purged(), model.purged.clone());
            prop_assert_eq!(log.vote(), model.vote.clone());
        }
    }
}

#[test]
fn a_write_that_a_power_loss_cut_off_does_not_keep_the_log_from_opening() {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = tempfile::tempdir().expect("a folder");
    let original = folder(dir.path());
    let log = open(&original);
    for index in 0..20 {
        log.append(vec![entry(index, &"x".repeat(500))], ignore()).expect("queued");
        log.flush().expect("written");
    }
    // As the disk is in the middle of things: the log is not closed.
    let target = folder(copy.path());
    for name in crate::durable::list(&original.log_dir()).expect("files") {
        std::fs::copy(original.log_dir().join(&name), target.log_dir().join(&name)).expect("copied");
    }
    let wal = crate::durable::list(&target.log_dir()).expect("files").into_iter().filter(|n| n.ends_with(".log"));
    let wal = wal.map(|n| target.log_dir().join(n)).max_by_key(|p| p.metadata().expect("a file").len()).expect("one");
    let size = wal.metadata().expect("a file").len();
    std::fs::OpenOptions::new().write(true).open(&wal).and_then(|f| f.set_len(size - 3)).expect("cut off");
    assert_eq!(all(&open(&target)), entries(0..19, &"x".repeat(500)), "the last write alone is lost");
}

/// One thread writes and takes back; what readers see is always one run of entries without a hole, in which what was
/// written later never comes before what was written earlier.
#[test]
fn readers_see_one_moment_of_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open(&folder(dir.path()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let term = |e: &LogEntry| {
        let text = std::str::from_utf8(&e.data).expect("text");
        text.split_once(':').expect("index:term").1.parse::<u64>().expect("a number")
    };
    std::thread::scope(|scope| {
        let reader = || {
            let mut reads = 0_u64;
            while !stop.load(Ordering::Acquire) {
                let from = log.purged().map_or(0, |(purged, _)| purged + 1);
                let seen = match log.read(from, u64::MAX, usize::MAX) {
                    // The purge came between the two calls.
                    Err(error) if log.purged().is_some_and(|(purged, _)| purged >= from) => {
                        assert!(error.to_string().contains("purged"), "{error}");
                        continue;
                    }
                    seen => seen.expect("no hole"),
                };
                assert!(seen.is_sorted_by_key(|e| e.index) && seen.is_sorted_by_key(term), "{seen:?}");
                reads += 1;
            }
            reads
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let mut next = 0;
        for round in 0..400_u64 {
            log.append(entries(next..next + 7, &round.to_string()), ignore()).expect("queued");
            // Now and then far back, into what is in the database already.
            next = if round % 10 == 9 { next - 12 } else { next + 7 - round % 5 };
            log.truncate_from(next, ignore()).expect("queued");
            if round % 3 == 2 {
                log.flush().expect("written"); // so that readers find both queued and written entries
            }
            if round % 50 == 49 {
                log.purge_to(next.saturating_sub(30), vec![1], ignore()).expect("queued");
            }
        }
        log.flush().expect("written");
        stop.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().expect("no reader failed") > 0);
        }
    });
}

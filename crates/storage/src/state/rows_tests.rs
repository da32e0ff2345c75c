use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use atoll_metadata::{Family, Kv, KvRead};
use proptest::prelude::*;

use super::rows::DIRECT_MAX;
use super::*;
use crate::testing::{folder, log_id, put, small, state};

fn quickly<R>(store: &StateStore, mut read: impl FnMut(&dyn KvRead) -> R) -> (R, usize) {
    let (mut result, mut runs) = (None, 0);
    store.read_quickly(&mut |kv| (result, runs) = (Some(read(kv)), runs + 1)).expect("a view");
    (result.expect("it was read"), runs)
}

fn value(kv: &dyn KvRead, key: &str) -> std::result::Result<Option<String>, atoll_metadata::KvError> {
    let value = kv.get(Family::State, key.as_bytes())?;
    Ok(value.map(|bytes| String::from_utf8(bytes).expect("text")))
}

#[test]
fn a_view_during_which_the_state_moves_on_is_read_again_as_a_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1"), ("b", "1")]);
    // In the first turn no row is kept, in the second both are.
    for (first, second) in [("1", "2"), ("2", "3")] {
        let mut moved = false;
        let ((a, b), runs) = quickly(&store, |kv| {
            let a = value(kv, "a");
            if !std::mem::replace(&mut moved, true) {
                assert_eq!(a, Ok(Some(first.to_owned())));
                put(&store, second.parse().expect("a revision"), &[("a", second), ("b", second)]);
            }
            (a, value(kv, "b"))
        });
        assert_eq!((a, b, runs), (Ok(Some(second.to_owned())), Ok(Some(second.to_owned())), 2));
        assert_eq!(quickly(&store, |kv| (value(kv, "a"), value(kv, "b"))).1, 1);
    }
}

#[test]
fn a_view_of_many_rows_that_are_not_kept_stays_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("b", "1")]);
    let (b, runs) = quickly(&store, |kv| {
        for none in 0..=DIRECT_MAX {
            assert_eq!(value(kv, &none.to_string()), Ok(None));
        }
        put(&store, 2, &[("b", "2")]);
        value(kv, "b")
    });
    assert_eq!((b, runs), (Ok(Some("1".into())), 1));
    // What an old view has read is not kept.
    assert_eq!(quickly(&store, |kv| value(kv, "b")).0, Ok(Some("2".into())));
}

#[test]
fn a_row_that_another_view_has_kept_meanwhile_tears_an_older_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1"), ("b", "1")]);
    let mut moved = false;
    let ((a, b), runs) = quickly(&store, |kv| {
        let a = value(kv, "a");
        if !std::mem::replace(&mut moved, true) {
            put(&store, 2, &[("a", "2"), ("b", "2")]);
            assert_eq!(quickly(&store, |newer| value(newer, "b")), (Ok(Some("2".into())), 1));
            assert!(value(kv, "b").is_err(), "a row of a newer version");
        }
        (a, value(kv, "b"))
    });
    assert_eq!((a, b, runs), (Ok(Some("2".into())), Ok(Some("2".into())), 2));
}

#[test]
fn what_is_read_of_a_database_that_was_replaced_meanwhile_is_not_kept() {
    let (source_dir, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (source, store) = (state(&folder(source_dir.path())), state(&folder(dir.path())));
    put(&store, 1, &[("a", "1")]);
    put(&source, 2, &[("a", "2")]);
    let made = source.create_checkpoint().expect("a snapshot");
    let received = crate::snapshot::tests::transfer(&made, &store);
    // Between the look at the version and the first read.
    let replaced = || {
        let db = store.current.load_full();
        store.install(&received).expect("installed");
        db
    };
    let seen = QuickView::with(&store.rows, replaced, |view| value(view, "a"));
    assert_eq!(seen, None, "neither the old row nor the new one is of the version that was looked at");
    assert_eq!(quickly(&store, |kv| value(kv, "a")), (Ok(Some("2".into())), 1));
}

#[test]
fn long_rows_are_kept_and_forgotten_as_short_ones_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    for (revision, length) in [(1, 54), (2, 55), (3, 4_000), (4, 0)] {
        let text = "x".repeat(length);
        put(&store, revision, &[("a", &text)]);
        for _ in 0..2 {
            assert_eq!(quickly(&store, |kv| value(kv, "a")), (Ok(Some(text.clone())), 1));
        }
    }
}

#[test]
fn rows_are_right_while_others_make_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let few = Resources { rows_bytes: 64 << 10, ..small() };
    let store = StateStore::open(&folder, &few).expect("a store");
    let text = |number: u64, revision: u64| format!("{number} at {revision} {}", "x".repeat(number as usize * 20));
    for revision in 1..=3 {
        let rows: Vec<_> = (0..100).map(|number| (number.to_string(), text(number, revision))).collect();
        put(&store, revision, &rows.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>());
        for number in (0..100).chain((0..100).rev()) {
            let seen = quickly(&store, |kv| value(kv, &number.to_string())).0;
            assert_eq!(seen, Ok(Some(text(number, revision))));
        }
    }
}

#[test]
fn what_is_written_and_does_not_count_yet_is_not_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1")]);
    let mut first_run = true;
    let (seen, runs) = quickly(&store, |kv| {
        if std::mem::replace(&mut first_run, false) {
            let change = store.rows.change();
            let db = store.current.load_full();
            db.db.put_cf(db.family(Family::State).expect("a family"), b"a", b"2").expect("written");
            assert!(value(kv, "a").is_err(), "a row of a change that is on its way");
            assert!(kv.scan(Family::State, b"a", b"b", 1).is_err(), "rows of a change that is on its way");
            drop(change);
        }
        value(kv, "a")
    });
    assert_eq!((seen, runs), (Ok(Some("2".into())), 2));
}

#[test]
fn what_is_not_there_is_kept_too_until_it_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    for _ in 0..2 {
        assert_eq!(quickly(&store, |kv| value(kv, "a")), (Ok(None), 1));
    }
    put(&store, 1, &[("a", "1")]);
    assert_eq!(quickly(&store, |kv| value(kv, "a")), (Ok(Some("1".into())), 1));
    let deleted = store.apply_batch(|batch| {
        batch.kv().delete(Family::State, b"a".to_vec());
        batch.entry_applied(2, log_id(2))
    });
    deleted.expect("applied");
    assert_eq!(quickly(&store, |kv| value(kv, "a")), (Ok(None), 1));
}

#[test]
fn no_reader_waits_for_a_write_that_stands_still() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1")]);
    let change = store.rows.change();
    std::thread::scope(|scope| {
        let (read, reader) = std::sync::mpsc::channel();
        let store = &store;
        scope.spawn(move || {
            let quick = quickly(store, |kv| value(kv, "a")).0;
            let whole = store.read(|view| value(view, "a")).expect("a view");
            read.send((quick, whole)).expect("somebody waits");
        });
        let seen = reader.recv_timeout(std::time::Duration::from_secs(60));
        // Before anything can fail, or the reader would never end.
        drop(change);
        assert_eq!(seen, Ok((Ok(Some("1".into())), Ok(Some("1".into())))));
    });
}

#[test]
fn a_change_that_does_not_count_yet_is_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1")]);
    let older = store.known.lock().position.clone();
    put(&store, 2, &[("a", "2")]);
    let newer = std::mem::replace(&mut store.known.lock().position, older);
    // As in the midst of the second one: it can be seen in RocksDB, and nobody was told.
    let change = store.rows.change();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| store.read(|view| (store.revision(), value(view, "a"))).expect("a view"));
        // Time for a reader that does not wait to show it.
        (0..10_000).for_each(|_| std::thread::yield_now());
        store.known.lock().position = newer;
        drop(change);
        assert_eq!(reader.join().expect("no panic"), (2, Ok(Some("2".into()))));
    });
}

/// The keys that each revision sets, and one that only every second revision has.
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const EVEN: &str = "even";

fn apply(store: &StateStore, revision: u64) {
    let applied = store.apply_batch(|batch| {
        let value = revision.to_string().into_bytes();
        for key in KEYS {
            batch.kv().put(Family::State, key.as_bytes().to_vec(), value.clone());
        }
        match revision % 2 {
            0 => batch.kv().put(Family::State, EVEN.as_bytes().to_vec(), value),
            _ => batch.kv().delete(Family::State, EVEN.as_bytes().to_vec()),
        }
        batch.entry_applied(revision, log_id(revision))
    });
    applied.expect("applied");
}

/// The revision that all keys agree on; an error where the view said that it is torn.
fn agreed(kv: &dyn KvRead, turn: usize) -> std::result::Result<u64, atoll_metadata::KvError> {
    let number = |text: Option<String>| text.map_or(0, |t| t.parse::<u64>().expect("a number"));
    let first = number(value(kv, KEYS[turn % KEYS.len()])?);
    for key in KEYS {
        assert_eq!(number(value(kv, key)?), first, "{key}");
    }
    assert_eq!(number(value(kv, EVEN)?), if first % 2 == 0 { first } else { 0 });
    if turn.is_multiple_of(7) {
        for (_, value) in kv.scan(Family::State, b"a", b"e", 10)? {
            assert_eq!(value, first.to_string().into_bytes());
        }
    }
    Ok(first)
}

#[test]
fn quick_views_are_consistent_and_never_older_than_what_is_known_to_be_applied() {
    let (source_dir, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (source, store) = (state(&folder(source_dir.path())), state(&folder(dir.path())));
    apply(&store, 2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let (mut newest, mut turn, mut once) = (0, 0, 0_u64);
            while !stop.load(Ordering::Acquire) {
                let known = store.revision();
                let (seen, runs) = quickly(&store, |kv| agreed(kv, turn));
                let seen = seen.expect("the last run is of one view");
                assert!(seen >= known && seen >= newest, "{seen} after {known} and {newest}");
                (newest, turn, once) = (seen, turn + 1, once + u64::from(runs == 1));
            }
            once
        };
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(read)).collect();
        let mut revision = 2;
        for _ in 0..4 {
            for _ in 0..300 {
                revision += 1;
                apply(&store, revision);
            }
            revision += 2;
            apply(&source, revision);
            let made = source.create_checkpoint().expect("a snapshot");
            store.install(&crate::snapshot::tests::transfer(&made, &store)).expect("installed");
        }
        stop.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().expect("no reader failed") > 0, "no view was ever whole");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn quick_views_show_the_state_as_a_map_would(
        steps in proptest::collection::vec((0..8_u8, proptest::option::of(0..4_u8), 0..8_u8), 1..80),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = state(&folder(dir.path()));
        let mut model = BTreeMap::new();
        for (revision, (key, change, asked)) in steps.into_iter().enumerate() {
            let revision = revision as u64 + 1;
            let applied = store.apply_batch(|batch| {
                match change {
                    Some(value) => batch.kv().put(Family::State, vec![key], vec![value]),
                    None => batch.kv().delete(Family::State, vec![key]),
                }
                batch.entry_applied(revision, log_id(revision))
            });
            applied.expect("applied");
            match change {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
            for key in [asked, key, asked] {
                let (seen, _) = quickly(&store, |kv| kv.get(Family::State, &[key]));
                prop_assert_eq!(seen.expect("readable"), model.get(&key).map(|v| vec![*v]));
            }
        }
    }
}

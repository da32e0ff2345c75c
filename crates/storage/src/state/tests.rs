use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use atoll_metadata::{Family, Kv, KvRead};
use proptest::prelude::*;

use super::*;
use crate::durable;
use crate::testing::{folder, get, log_id, put, small, state};

#[test]
fn what_is_applied_comes_back_with_how_far_it_came() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let store = state(&folder);
    assert_eq!((store.applied(), store.state_hash()), (Applied::default(), (0, 0)));
    put(&store, 1, &[("a", "1"), ("b", "1")]);
    store
        .apply_batch(|batch| {
            batch.set_membership(b"three voters".to_vec());
            batch.entry_applied(2, log_id(2))
        })
        .expect("a membership alone");
    let (applied, hash) = (store.applied(), store.state_hash());
    assert_eq!(applied, Applied { revision: 2, log_id: Some(log_id(2)), membership: Some(b"three voters".to_vec()) });
    assert_eq!(hash, (2, store.hash_at(1).expect("kept")), "raft's own keys are outside the hash");
    assert_eq!(store.flush_synced().expect("synced"), 2);
    drop(store);

    let store = state(&folder);
    assert_eq!((store.applied(), store.state_hash(), store.hash_at(2)), (applied, hash, Some(hash.1)));
    assert_eq!(store.recompute_hash().expect("readable"), hash);
    assert_eq!(get(&store, "b").as_deref(), Some("1"));
    assert!(store.stats().buffer_bytes > 0);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1")]);
    let before = (store.applied(), store.state_hash());
    let failed: Result<()> = store.apply_batch(|batch| {
        batch.kv().put(Family::State, b"a".to_vec(), b"2".to_vec());
        batch.entry_applied(2, log_id(2))?;
        Err(atoll_metadata::KvError("of the state machine".to_owned()).into())
    });
    assert!(failed.is_err());
    assert_eq!((store.applied(), store.state_hash()), before);
    assert_eq!(get(&store, "a").as_deref(), Some("1"));

    let unended = store.apply_batch(|batch| {
        batch.kv().put(Family::State, b"a".to_vec(), b"2".to_vec());
        Ok(())
    });
    assert!(matches!(unended, Err(StorageError::OutOfOrder(_))), "a change without a revision");
    let backwards = store.apply_batch(|batch| batch.entry_applied(1, log_id(1)));
    assert!(matches!(backwards, Err(StorageError::OutOfOrder(_))), "revision 1 twice");
    assert_eq!((store.applied(), store.state_hash()), before);
}

#[test]
fn an_entry_sees_what_those_before_it_in_the_batch_wrote() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1"), ("b", "1"), ("c", "1")]);
    let seen = store.apply_batch(|batch| {
        batch.kv().delete(Family::State, b"a".to_vec());
        batch.kv().put(Family::State, b"b2".to_vec(), b"2".to_vec());
        batch.entry_applied(2, log_id(2))?;
        assert_eq!(batch.kv().get(Family::State, b"a")?, None);
        assert_eq!(batch.kv().get(Family::Wanted, b"b2")?, None, "families are apart");
        assert!(batch.bytes() > 0);
        batch.entry_applied(3, log_id(3))?;
        Ok(batch.kv().scan(Family::State, b"a", b"z", 2)?)
    });
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(seen.expect("applied"), [pair("b", "1"), pair("b2", "2")]);
    assert_eq!(store.hash_at(2), store.hash_at(3), "the third changed nothing");
    assert_ne!(store.hash_at(1), store.hash_at(2));
}

#[test]
fn a_view_stays_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    put(&store, 1, &[("a", "1")]);
    store
        .read(|view| {
            put(&store, 2, &[("a", "2"), ("b", "2")]);
            assert_eq!(view.revision().expect("a revision"), 1);
            assert_eq!(view.get(Family::State, b"a").expect("readable"), Some(b"1".to_vec()));
            assert_eq!(view.scan(Family::State, b"a", b"z", 10).expect("readable").len(), 1);
        })
        .expect("a view");
    assert_eq!(store.read(|view| view.revision().expect("a revision")).expect("a view"), 2);
}

#[test]
fn hashes_of_old_revisions_are_forgotten_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = state(&folder(dir.path()));
    let last = StateStore::HASHES_MAX as u64 + 10;
    for revision in 1..=last {
        put(&store, revision, &[("a", &revision.to_string())]);
    }
    assert_eq!(store.hash_at(10), None);
    assert!(store.hash_at(11).is_some());
    assert_eq!(store.hash_at(last), Some(store.state_hash().1));
    assert_eq!(store.hash_at(last + 1), None);
}

#[test]
fn what_an_interrupted_install_leaves_is_cleared_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    let store = state(&folder);
    put(&store, 1, &[("a", "1")]);
    drop(store);
    let leftovers = folder.state_dir();
    std::fs::create_dir(leftovers.join("db-2")).expect("a folder");
    std::fs::write(leftovers.join("db-2/000001.sst"), "half").expect("a file");
    std::fs::write(leftovers.join("CURRENT.tmp"), "db-2\n").expect("a file");
    let store = state(&folder);
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
    assert_eq!(durable::list(&leftovers).expect("a list"), ["CURRENT", "db-1"]);
}

#[test]
fn a_state_whose_pointer_is_lost_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = folder(dir.path());
    put(&state(&folder), 1, &[("a", "1")]);
    let pointer = folder.state_dir().join("CURRENT");
    std::fs::write(&pointer, "db-2\n").expect("a wrong pointer");
    assert!(StateStore::open(&folder, &small()).is_err(), "db-2 does not exist");
    std::fs::write(&pointer, "nonsense").expect("a broken pointer");
    assert!(StateStore::open(&folder, &small()).is_err());
    std::fs::remove_file(&pointer).expect("lost");
    assert!(StateStore::open(&folder, &small()).is_err());
    std::fs::write(&pointer, "db-1\n").expect("repaired by hand");
    assert_eq!(get(&state(&folder), "a").as_deref(), Some("1"), "no attempt has cost the state");
}

#[test]
fn readers_never_see_a_mixture_while_snapshots_are_installed() {
    let (source_dir, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (source, store) = (state(&folder(source_dir.path())), state(&folder(dir.path())));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let mut views = 0_u64;
            while !stop.load(Ordering::Acquire) {
                store.read(consistent).expect("a view");
                views += 1;
            }
            views
        };
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(read)).collect();
        for round in 1..=5 {
            let text = round.to_string();
            put(&source, round, &[("a", &text), ("b", &text)]);
            let made = source.create_checkpoint().expect("a snapshot");
            store.install(&crate::snapshot::tests::transfer(&made, &store)).expect("installed");
            assert_eq!((store.revision(), store.generation()), (round, round + 1));
        }
        stop.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().expect("no reader failed") > 0);
        }
    });
    assert_eq!(durable::list(&folder_of(&store)).expect("a list"), ["CURRENT", "db-6"], "old databases are gone");
}

fn folder_of(store: &StateStore) -> PathBuf {
    store.path.clone()
}

/// Both keys carry the revision of the view.
fn consistent(view: &StateView<'_>) {
    for key in [b"a", b"b"] {
        let value = view.get(Family::State, key).expect("readable").unwrap_or(b"0".to_vec());
        assert_eq!(value, view.revision().expect("a revision").to_string().into_bytes());
    }
}

/// One change of the model test: family, key, and a value to put or nothing to delete.
type Change = (bool, u8, Option<u8>);

fn family(wanted: bool) -> Family {
    if wanted { Family::Wanted } else { Family::State }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn the_state_is_a_map_and_its_hash_that_of_its_content(
        batches in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<Change>(), 0..6), 1..4), 1..8),
        reopen_after in 0..8_usize,
        limit in 0..10_usize,
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = folder(dir.path());
        let mut store = state(&folder);
        let mut model: BTreeMap<(Family, Vec<u8>), Vec<u8>> = BTreeMap::new();
        let mut revision = 0;
        for (number, entries) in batches.iter().enumerate() {
            store.apply_batch(|batch| {
                for changes in entries {
                    for (wanted, key, value) in changes {
                        // Few keys, so that they are overwritten and deleted.
                        let (family, key) = (family(*wanted), vec![key % 16]);
                        match value {
                            Some(value) => {
                                model.insert((family, key.clone()), vec![*value]);
                                batch.kv().put(family, key, vec![*value]);
                            }
                            None => {
                                model.remove(&(family, key.clone()));
                                batch.kv().delete(family, key);
                            }
                        }
                    }
                    revision += 1;
                    batch.entry_applied(revision, log_id(revision))?;
                    for family in Family::ALL {
                        assert_eq!(batch.kv().scan(family, &[3], &[12], limit)?, expected(&model, family, limit));
                    }
                }
                Ok(())
            }).expect("applied");
            if number == reopen_after {
                drop(store);
                store = state(&folder);
            }
            prop_assert_eq!(store.recompute_hash().expect("readable"), store.state_hash());
            prop_assert_eq!(store.state_hash(), (revision, hash_of(&model)));
            for family in Family::ALL {
                let scanned = store.read(|view| view.scan(family, &[3], &[12], limit).expect("readable"));
                prop_assert_eq!(scanned.expect("a view"), expected(&model, family, limit));
            }
        }
    }
}

fn hash_of(model: &BTreeMap<(Family, Vec<u8>), Vec<u8>>) -> u128 {
    model.iter().fold(0, |sum: u128, ((family, key), value)| {
        sum.wrapping_add(atoll_metadata::hash_of_pair(*family, key, value))
    })
}

fn expected(model: &BTreeMap<(Family, Vec<u8>), Vec<u8>>, family: Family, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let range = (family, vec![3])..(family, vec![12]);
    model.range(range).take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::testing::{folder, get, put, small, state};
use crate::{StateStore, StorageError, durable};

/// Sends what a receiver lacks, in small chunks; at most `chunks_max` of them. True when nothing is left.
fn send(from: &Checkpoint, to: &mut SnapshotReceiver, chunks_max: usize) -> bool {
    let mut chunks = 0;
    for file in to.progress() {
        let mut offset = file.received;
        while offset < file.size {
            if chunks == chunks_max {
                return false;
            }
            let chunk = from.read_chunk(&file.name, offset, 700).expect("a chunk");
            to.write_chunk(&file.name, offset, &chunk.data, chunk.crc).expect("accepted");
            offset += chunk.data.len() as u64;
            chunks += 1;
        }
    }
    true
}

/// Takes a snapshot over to another store, whole.
pub(crate) fn transfer(from: &Checkpoint, to: &StateStore) -> Arc<Checkpoint> {
    let mut receiver = to.receive(&from.manifest_bytes()).expect("a receiver");
    assert!(send(from, &mut receiver, usize::MAX));
    receiver.finish().expect("verified")
}

fn filled(dir: &tempfile::TempDir) -> StateStore {
    let store = state(&folder(dir.path()));
    for revision in 1..=50 {
        put(&store, revision, &[(&format!("key-{revision}"), &"value".repeat(20)), ("a", &revision.to_string())]);
    }
    store
}

fn dirs() -> (tempfile::TempDir, tempfile::TempDir) {
    (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"))
}

#[test]
fn a_snapshot_brings_another_node_to_the_same_state() {
    let (dir, other_dir) = dirs();
    let (store, other) = (filled(&dir), state(&folder(other_dir.path())));
    let made = store.create_checkpoint().expect("a snapshot");
    assert_eq!((made.applied(), made.state_hash()), (&store.applied(), store.state_hash().1));
    made.verify().expect("intact");
    put(&store, 51, &[("a", "51")]);

    put(&other, 3, &[("stale", "x")]);
    other.install(&transfer(&made, &other)).expect("installed");
    assert_eq!((&other.applied(), other.state_hash()), (made.applied(), (50, made.state_hash())));
    assert_eq!(other.recompute_hash().expect("readable"), other.state_hash());
    assert_eq!((get(&other, "a").as_deref(), get(&other, "stale")), (Some("50"), None));
    assert_eq!(other.hash_at(3), None, "hashes of the old state are forgotten");
    assert_eq!(other.current_checkpoint().expect("kept").manifest().id, made.manifest().id);

    put(&other, 51, &[("a", "51")]);
    assert_eq!(other.state_hash(), store.state_hash());
    drop(other);
    let other = state(&folder(other_dir.path()));
    assert_eq!((other.state_hash(), other.generation()), (store.state_hash(), 2));
    assert_eq!(other.current_checkpoint().expect("kept").manifest(), made.manifest());
    other.current_checkpoint().expect("kept").verify().expect("the installed database did not change it");
}

/// Damages a snapshot's folder.
type Damage = fn(&Path);
/// Whether an error tells of a damage.
type Told = fn(&StorageError) -> bool;

/// Copies a snapshot's folder under names of their own, and damages the first ones.
fn copies(of: &Checkpoint, folder: &Path, damages: &[Damage]) -> impl FnMut() -> crate::error::Result<PathBuf> {
    let (id, folder) = (of.manifest().id.clone(), folder.to_owned());
    let (mut made, damages) = (0, damages.to_vec());
    move || {
        let copy = folder.join(format!("copy-{made}"));
        std::fs::create_dir_all(copy.join("db")).expect("a folder");
        for name in ["manifest.json".to_owned()].into_iter().chain(files(&folder.join(&id).join("db"))) {
            std::fs::copy(folder.join(&id).join(&name), copy.join(&name)).expect("a copy");
        }
        if let Some(damage) = damages.get(made) {
            damage(&copy);
        }
        made += 1;
        Ok(copy)
    }
}

/// Path of a snapshot's first file of the database.
fn first_file(snapshot: &Path) -> PathBuf {
    snapshot.join(files(&snapshot.join("db")).first().expect("a file"))
}

fn cut_a_file(snapshot: &Path) {
    let cut = std::fs::OpenOptions::new().write(true).open(first_file(snapshot));
    cut.and_then(|file| file.set_len(1)).expect("it is cut");
}

fn lose_a_file(snapshot: &Path) {
    std::fs::remove_file(first_file(snapshot)).expect("it is gone");
}

fn overwrite_the_manifest(snapshot: &Path) {
    let path = snapshot.join("manifest.json");
    let len = std::fs::read(&path).expect("a manifest").len();
    std::fs::write(&path, vec![0; len]).expect("zeroes");
}

fn lose_the_manifest(snapshot: &Path) {
    std::fs::remove_file(snapshot.join("manifest.json")).expect("it is gone");
}

/// Names of a database's files, as seen from the snapshot's folder.
fn files(database: &Path) -> Vec<String> {
    durable::list(database).expect("a folder").into_iter().map(|name| format!("db/{name}")).collect()
}

#[test]
fn a_snapshot_that_is_damaged_as_soon_as_it_is_made_is_made_once_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = filled(&dir);
    let made = store.create_checkpoint().expect("a snapshot");
    let snapshots = dir.path().join("snapshots");
    let is_lost = |error: &StorageError| matches!(error, StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
    let damages: [(Damage, Told); 4] = [
        (cut_a_file, |error| matches!(error, StorageError::Corrupt { .. })),
        (lose_a_file, is_lost),
        (overwrite_the_manifest, |error| matches!(error, StorageError::SnapshotInvalid(_))),
        (lose_the_manifest, is_lost),
    ];

    for (damage, is_told) in damages {
        let opened = store::open_made(copies(&made, &snapshots, &[damage])).expect("the second one");
        opened.verify().expect("intact");
        assert!(!snapshots.join("copy-0").exists(), "the damaged one is gone");
        drop(opened);
        std::fs::remove_dir_all(snapshots.join("copy-1")).expect("it is there");

        let refused =
            store::open_made(copies(&made, &snapshots, &[damage, damage])).expect_err("its source is damaged");
        assert!(is_told(&refused), "{refused}");
        assert!(!snapshots.join("copy-0").exists() && !snapshots.join("copy-1").exists(), "nothing is left of them");
    }
}

#[test]
fn a_node_installs_its_own_snapshot_after_its_state_fell_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = filled(&dir);
    let made = store.create_checkpoint().expect("a snapshot");
    let hash = store.state_hash();
    drop(store);
    // As after a power loss that took the unsynced end of the state.
    let place = folder(dir.path()).state_dir();
    durable::remove_dir(&place.join("db-1")).expect("lost");
    let store = state(&folder(dir.path()));
    assert_eq!(store.revision(), 0);
    let kept = store.current_checkpoint().expect("kept");
    assert_eq!(kept.manifest(), made.manifest());
    store.install(&kept).expect("installed");
    assert_eq!(store.state_hash(), hash);
}

#[test]
fn an_interrupted_transfer_goes_on_where_it_was() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let other = state(&folder(other_dir.path()));
    let mut receiver = other.receive(&made.manifest_bytes()).expect("a receiver");
    assert!(!send(&made, &mut receiver, 4));
    let before = receiver.progress();
    assert!(before.iter().map(|p| p.received).sum::<u64>() > 0);
    assert!(matches!(other.receive(&made.manifest_bytes()), Err(StorageError::SnapshotInvalid(_))), "one at a time");
    drop(receiver);
    drop(other);

    let other = state(&folder(other_dir.path()));
    let mut receiver = other.receive(&made.manifest_bytes()).expect("a receiver");
    assert_eq!(receiver.progress(), before);
    assert!(matches!(receiver.finish(), Err(StorageError::SnapshotIncomplete(_))), "not all is here");
    assert!(send(&made, &mut receiver, usize::MAX));
    other.install(&receiver.finish().expect("verified")).expect("installed");
    assert_eq!(get(&other, "a").as_deref(), Some("50"));

    drop(receiver);
    let again = other.receive(&made.manifest_bytes()).expect("a sender that missed the answer");
    assert!(again.progress().iter().all(|p| p.received == p.size), "nothing is sent twice");
}

/// A store that has received a snapshot of revision 50 and not installed it, at revision 3.
fn received(dir: &tempfile::TempDir, made: &Checkpoint) -> (StateStore, Arc<Checkpoint>) {
    let other = state(&folder(dir.path()));
    put(&other, 3, &[("stale", "x")]);
    let own = other.create_checkpoint().expect("a snapshot");
    let arrived = transfer(made, &other);
    assert_eq!(other.current_checkpoint().expect("one").manifest(), own.manifest(), "what arrived does not count yet");
    (other, arrived)
}

/// The sender begins anew, has nothing to send, and the snapshot is installed.
fn install_again(made: &Checkpoint, other: &StateStore) {
    let mut receiver = other.receive(&made.manifest_bytes()).expect("a receiver");
    assert!(receiver.progress().iter().all(|p| p.received == p.size), "nothing is sent twice");
    other.install(&receiver.finish().expect("verified before")).expect("installed");
    assert_eq!(other.current_checkpoint().expect("it counts").manifest(), made.manifest());
    assert_eq!(other.state_hash(), (50, made.state_hash()));
}

#[test]
fn a_received_snapshot_counts_only_once_it_is_installed() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let (other, arrived) = received(&other_dir, &made);
    let own = other.current_checkpoint().expect("one").manifest().id.clone();
    drop((other, arrived));

    let other = state(&folder(other_dir.path()));
    assert_eq!((other.revision(), other.generation()), (3, 1), "a start installs nothing by itself");
    assert_eq!(other.current_checkpoint().expect("the old one").manifest().id, own);
    install_again(&made, &other);
    drop(other);
    let other = state(&folder(other_dir.path()));
    assert_eq!(other.current_checkpoint().expect("it counts").manifest(), made.manifest());
    assert_eq!(durable::list(&folder_of_snapshots(&other_dir)).expect("a list"), [made.manifest().id.clone()]);
}

#[test]
fn a_swap_that_a_crash_ended_before_its_switch_is_made_anew() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let (other, arrived) = received(&other_dir, &made);
    arrived.clone_files_to(&folder_of_state(&other_dir).join("db-2")).expect("copied");
    drop((other, arrived));
    let other = state(&folder(other_dir.path()));
    assert_eq!((other.revision(), get(&other, "stale").as_deref()), (3, Some("x")));
    install_again(&made, &other);
}

#[test]
fn a_swap_that_a_crash_ended_after_its_switch_is_completed_at_start() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let (other, arrived) = received(&other_dir, &made);
    other.install(&arrived).expect("installed");
    let place = folder_of_snapshots(&other_dir).join(&made.manifest().id);
    let own = folder_of_snapshots(&other_dir).join("00000000000000000003-0123456789abcdef");
    drop((other, arrived));
    // As it was before the swap's last step.
    std::fs::write(place.join("arrived"), "").expect("a file");
    std::fs::create_dir(&own).expect("a folder");
    let other = state(&folder(other_dir.path()));
    assert_eq!(other.state_hash(), (50, made.state_hash()));
    assert_eq!(other.current_checkpoint().expect("it counts").manifest(), made.manifest());
    assert_eq!(durable::list(&folder_of_snapshots(&other_dir)).expect("a list"), [made.manifest().id.clone()]);
    assert!(!place.join("arrived").exists());
}

#[test]
fn a_received_snapshot_that_is_overtaken_takes_no_space() {
    let (dir, other_dir) = dirs();
    let store = filled(&dir);
    let made = store.create_checkpoint().expect("a snapshot");
    let (other, arrived) = received(&other_dir, &made);
    drop(arrived);
    // The sender has a newer one by now.
    put(&store, 51, &[("a", "51")]);
    let newer = store.create_checkpoint().expect("a snapshot");
    let mut receiver = other.receive(&newer.manifest_bytes()).expect("a receiver");
    let names = durable::list(&folder_of_snapshots(&other_dir)).expect("a list");
    assert!(!names.contains(&made.manifest().id), "{names:?}");
    assert!(send(&newer, &mut receiver, usize::MAX));
    let arrived = receiver.finish().expect("verified");
    // Raft had no need of it: the log brought the state as far.
    put(&other, 60, &[("a", "60")]);
    assert!(other.install(&arrived).is_err());
    other.discard(&arrived);
    drop((arrived, receiver));
    let names = durable::list(&folder_of_snapshots(&other_dir)).expect("a list");
    assert!(!names.contains(&newer.manifest().id), "{names:?}");
    assert_eq!(other.current_checkpoint().expect("its own").applied().revision, 3);
}

#[test]
fn a_snapshot_is_installed_although_another_one_begins_to_arrive() {
    let (dir, other_dir) = dirs();
    let store = filled(&dir);
    let made = store.create_checkpoint().expect("a snapshot");
    let (other, arrived) = received(&other_dir, &made);
    put(&store, 51, &[("a", "51")]);
    let newer = store.create_checkpoint().expect("a snapshot");
    let receiver = other.receive(&newer.manifest_bytes()).expect("a receiver");
    other.install(&arrived).expect("installed");
    drop((arrived, receiver));
    assert_eq!(other.current_checkpoint().expect("it counts").manifest(), made.manifest());
    other.current_checkpoint().expect("it counts").verify().expect("its files stay");
}

#[test]
fn a_snapshot_that_could_not_be_opened_once_it_was_there_can_be_received_again() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let other = state(&folder(other_dir.path()));
    let left = folder_of_snapshots(&other_dir).join(&made.manifest().id);
    std::fs::create_dir_all(&left).and_then(|()| std::fs::write(left.join("torn"), b"?")).expect("written");
    other.install(&transfer(&made, &other)).expect("installed");
    assert_eq!(other.state_hash(), (50, made.state_hash()));
}

#[test]
fn a_newer_snapshot_replaces_one_that_was_arriving() {
    let (dir, other_dir) = dirs();
    let (store, other) = (filled(&dir), state(&folder(other_dir.path())));
    let old = store.create_checkpoint().expect("a snapshot");
    assert!(!send(&old, &mut other.receive(&old.manifest_bytes()).expect("a receiver"), 3));
    put(&store, 51, &[("a", "51")]);
    other.install(&transfer(&store.create_checkpoint().expect("a snapshot"), &other)).expect("installed");
    assert_eq!(get(&other, "a").as_deref(), Some("51"));
    let names = durable::list(&folder_of_snapshots(&other_dir)).expect("a list");
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(matches!(other.install(&old), Err(StorageError::OutOfOrder(_))), "the state never goes back");
}

#[test]
fn a_newer_snapshot_goes_on_with_the_files_that_it_shares() {
    let (dir, other_dir) = dirs();
    let (store, other) = (filled(&dir), state(&folder(other_dir.path())));
    let old = store.create_checkpoint().expect("a snapshot");
    let mut receiver = other.receive(&old.manifest_bytes()).expect("a receiver");
    assert!(send(&old, &mut receiver, usize::MAX), "all of it comes, and its end does not");
    let came = receiver.progress();
    drop(receiver);
    put(&store, 51, &[("a", "51")]);
    let new = store.create_checkpoint().expect("a snapshot");
    let receiver = other.receive(&new.manifest_bytes()).expect("a receiver");
    let is_shared =
        |name: &str| old.manifest().files.iter().any(|f| f.name == name && new.manifest().files.contains(f));
    let (mut shared, mut taken) = (0, 0);
    for file in receiver.progress() {
        let before = came.iter().find(|f| f.name == file.name).map_or(0, |f| f.received);
        let expected = if is_shared(&file.name) { before } else { 0 };
        assert_eq!(file.received, expected, "{file:?}");
        (shared, taken) = (shared + u64::from(is_shared(&file.name)), taken + file.received);
    }
    assert!(shared > 0 && taken > 0, "{shared} files are shared and {taken} bytes of them had come");
    drop(receiver);
    other.install(&transfer(&new, &other)).expect("installed");
    assert_eq!(get(&other, "a").as_deref(), Some("51"));
    assert_eq!(durable::list(&folder_of_snapshots(&other_dir)).expect("a list").len(), 1);
}

#[test]
fn damaged_chunks_and_files_are_refused_and_sent_again() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let other = state(&folder(other_dir.path()));
    let mut receiver = other.receive(&made.manifest_bytes()).expect("a receiver");
    let sst = made.manifest().files.iter().find(|f| f.name.ends_with(".sst")).expect("a table").clone();
    let chunk = made.read_chunk(&sst.name, 0, 100).expect("a chunk");

    let expect_refusal = |result: crate::error::Result<()>, expected: u64| match result {
        Err(StorageError::ChunkRefused { expected: at, .. }) => assert_eq!(at, expected),
        other => panic!("{other:?}"),
    };
    expect_refusal(receiver.write_chunk(&sst.name, 0, &chunk.data, chunk.crc ^ 1), 0);
    receiver.write_chunk(&sst.name, 0, &chunk.data, chunk.crc).expect("accepted");
    receiver.write_chunk(&sst.name, 0, &chunk.data, chunk.crc).expect("again, and ignored");
    expect_refusal(receiver.write_chunk(&sst.name, 101, &chunk.data, chunk.crc), 100);
    expect_refusal(receiver.write_chunk(&sst.name, sst.size - 1, &chunk.data, chunk.crc), 100);
    receiver.write_chunk("../evil", 0, &chunk.data, chunk.crc).expect_err("not in the manifest");

    assert!(send(&made, &mut receiver, usize::MAX));
    let arrived = folder_of_snapshots(&other_dir).join(format!("arriving-{}/db/{}", made.manifest().id, sst.name));
    let mut bytes = std::fs::read(&arrived).expect("the table");
    bytes[50] ^= 1;
    std::fs::write(&arrived, bytes).expect("damaged on this disk");
    match receiver.finish() {
        Err(StorageError::SnapshotIncomplete(files)) => assert_eq!(files, vec![sst.name.clone()]),
        other => panic!("{other:?}"),
    }
    assert!(other.current_checkpoint().is_none(), "nothing of it counts");
    assert!(send(&made, &mut receiver, usize::MAX));
    other.install(&receiver.finish().expect("verified")).expect("installed");
    assert_eq!(other.recompute_hash().expect("readable"), (50, made.state_hash()));
}

#[test]
fn a_manifest_that_lies_about_the_revision_is_refused() {
    let (dir, other_dir) = dirs();
    let made = filled(&dir).create_checkpoint().expect("a snapshot");
    let other = state(&folder(other_dir.path()));
    let mut lie = made.manifest().clone();
    lie.revision = 99;
    let mut receiver = other.receive(&lie.encode().expect("encoded")).expect("a receiver");
    assert!(send(&made, &mut receiver, usize::MAX));
    assert!(matches!(receiver.finish(), Err(StorageError::SnapshotInvalid(_))));
    assert_eq!(other.revision(), 0);
}

#[test]
fn an_old_snapshot_stays_while_it_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = filled(&dir);
    let old = store.create_checkpoint().expect("a snapshot");
    put(&store, 51, &[("a", "51")]);
    let new = store.create_checkpoint().expect("a snapshot");
    assert_eq!(store.current_checkpoint().expect("the new one").manifest().id, new.manifest().id);
    old.verify().expect("still there");
    let id = old.manifest().id.clone();
    drop(old);
    assert_eq!(durable::list(&folder_of_snapshots(&dir)).expect("a list"), [new.manifest().id.clone()], "{id} stayed");
}

#[test]
fn what_a_crash_leaves_and_what_is_damaged_is_cleared_away_at_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = filled(&dir);
    let made = store.create_checkpoint().expect("a snapshot");
    drop(store);
    let snapshots = folder_of_snapshots(&dir);
    std::fs::create_dir(snapshots.join("making-x")).expect("a folder");
    assert!(StateStore::open(&folder(dir.path()), &small()).expect("a state").current_checkpoint().is_some());
    assert_eq!(durable::list(&snapshots).expect("a list"), [made.manifest().id.clone()]);

    let sst = made.manifest().files.iter().find(|f| f.name.ends_with(".sst")).expect("a table");
    let place = snapshots.join(&made.manifest().id).join("db").join(&sst.name);
    std::fs::remove_file(&place).expect("removed");
    std::fs::write(&place, "cut off").expect("damaged");
    assert!(matches!(made.verify(), Err(StorageError::Corrupt { .. })));
    let store = state(&folder(dir.path()));
    assert!(store.current_checkpoint().is_none(), "a damaged one is not offered");
    assert_eq!(get(&store, "a").as_deref(), Some("50"), "the state does not need it");
}

/// A chunk of one of the manifest's files, or of none: file, offset, bytes, and whether its checksum fits.
type AnyChunk = (u8, u64, Vec<u8>, bool);

fn any_chunk() -> impl Strategy<Value = AnyChunk> {
    let offset = prop_oneof![0..3_000_u64, Just(u64::MAX), any::<u64>()];
    (any::<u8>(), offset, proptest::collection::vec(any::<u8>(), 0..64), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn no_chunks_make_a_receiver_panic_or_count_what_is_wrong(chunks in proptest::collection::vec(any_chunk(), 0..40)) {
        let (dir, other_dir) = dirs();
        let made = filled(&dir).create_checkpoint().expect("a snapshot");
        let other = state(&folder(other_dir.path()));
        let mut receiver = other.receive(&made.manifest_bytes()).expect("a receiver");
        let files = &made.manifest().files;
        for (which, offset, data, fits) in chunks {
            let name = files.get(usize::from(which) % (files.len() + 1)).map_or("no such file", |f| f.name.as_str());
            let crc = crc32fast::hash(&data) ^ u32::from(!fits);
            let _ = receiver.write_chunk(name, offset, &data, crc);
            prop_assert!(receiver.progress().iter().all(|p| p.received <= p.size));
        }
        prop_assert!(receiver.finish().is_err(), "some file lacks");
        prop_assert!(other.current_checkpoint().is_none());
        // And the real bytes are accepted all the same, in the end.
        let mut rounds = 0;
        let arrived = loop {
            prop_assert!(send(&made, &mut receiver, usize::MAX));
            match receiver.finish() {
                Ok(arrived) => break arrived,
                Err(StorageError::SnapshotIncomplete(_)) if rounds < 3 => rounds += 1,
                Err(error) => panic!("{error}"),
            }
        };
        other.install(&arrived).expect("installed");
        prop_assert_eq!(other.state_hash(), (50, made.state_hash()));
    }

    #[test]
    fn no_manifest_makes_a_receiver_panic(sizes in proptest::collection::vec(prop_oneof![Just(u64::MAX), any::<u64>(), 0..9_u64], 0..6), revision: u64) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = filled(&dir);
        let mut manifest = store.create_checkpoint().expect("a snapshot").manifest().clone();
        manifest.revision = revision;
        manifest.files.truncate(sizes.len());
        manifest.files.iter_mut().zip(&sizes).for_each(|(file, size)| file.size = *size);
        if let Ok(mut receiver) = store.receive(&manifest.encode().expect("encoded")) {
            let _ = receiver.finish();
        }
    }
}

fn folder_of_snapshots(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("snapshots")
}

fn folder_of_state(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("state")
}

//! What is particular to a store in a folder: locks, sweeps, markers, mounts, slow readers.

#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::contract::content;
use atoll_blobstore::{BlobStore, BlockChecksums, FsOptions, FsStore, StoreError, VerifyingWriter};
use atoll_types::{Algorithm, ClusterId, Digest, ObjectName};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

const BLOCK: usize = BlockChecksums::BLOCK_BYTES as usize;
const DEADLINE: Duration = Duration::from_secs(60);

fn open(root: &Path) -> FsStore {
    FsStore::open(root.to_owned(), FsOptions::default()).unwrap()
}

/// The same store.
fn shared(store: &FsStore) -> Arc<dyn BlobStore> {
    Arc::new(store.clone())
}

async fn put(store: &FsStore, bytes: &[u8]) -> Result<ObjectName, StoreError> {
    let name = ObjectName::random(1);
    let mut writer = store.create(name).await?;
    writer.write(Bytes::copy_from_slice(bytes)).await?;
    writer.complete(BlockChecksums::of(bytes)).await?;
    Ok(name)
}

/// What is being written, without the locks.
fn temporary(root: &Path) -> Vec<String> {
    let names = std::fs::read_dir(root.join("tmp")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "waited in vain until {what}");
}

/// Open descriptors of files below a folder.
fn descriptors(root: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    open.filter(|file| file.starts_with(root.join("tmp")) && file.extension().is_none()).count()
}

#[tokio::test]
async fn a_parked_writer_holds_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (folder.path().canonicalize().unwrap(), open(folder.path()));
    for size in [100, BLOCK - 1, 3 * BLOCK + 100_000] {
        let bytes = content(size, size as u64);
        let mut writer =
            VerifyingWriter::create(&shared(&store), ObjectName::random(1), Algorithm::Sha256).await.unwrap();
        for piece in bytes.chunks(100_000) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        writer.park().await.unwrap();
        let held = writer.footprint();
        assert!(held.memory_bytes <= 8 << 10, "{size} bytes: {held:?}");
        assert_eq!((held.descriptors, descriptors(&root)), (0, 0), "{size} bytes");
        writer.write(Bytes::from_static(b"more")).await.unwrap();
        let whole = [&bytes[..], b"more"].concat();
        let done = writer.finish(&Digest::sha256(&whole)).await.unwrap();
        let stored: Vec<Bytes> = store.read(&done.object, 0..done.size).await.unwrap().try_collect().await.unwrap();
        assert!(stored.concat() == whole, "{size} bytes");
    }
}

#[tokio::test]
async fn a_parked_file_that_somebody_changed_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut writer = store.create(ObjectName::random(1)).await.unwrap();
    writer.write(content(BLOCK + 1, 1).into()).await.unwrap();
    writer.park().await.unwrap();
    let file = folder.path().join("tmp").join(&temporary(folder.path())[0]);
    std::fs::write(&file, "shorter").unwrap();
    let bytes = content(2 * BLOCK, 2);
    let went_on = async {
        writer.write(bytes.into()).await?;
        writer.park().await
    };
    assert!(went_on.await.is_err());
}

#[tokio::test]
async fn a_dropped_or_refused_writer_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut dropped = store.create(ObjectName::random(1)).await.unwrap();
    dropped.write(content(3 * BLOCK, 1).into()).await.unwrap();
    until("the file is there", || temporary(folder.path()).len() == 1).await;
    drop(dropped);
    until("the file is gone", || temporary(folder.path()).is_empty()).await;

    let mut aborted = store.create(ObjectName::random(1)).await.unwrap();
    aborted.write(content(3 * BLOCK, 2).into()).await.unwrap();
    aborted.abort().await.unwrap();
    assert_eq!(temporary(folder.path()), Vec::<String>::new());

    let mut refused = store.create(ObjectName::random(1)).await.unwrap();
    refused.write(content(3 * BLOCK, 3).into()).await.unwrap();
    refused.complete(BlockChecksums::default()).await.unwrap_err();
    until("the file is gone", || temporary(folder.path()).is_empty()).await;
}

#[tokio::test]
async fn opening_sweeps_what_the_dead_left_and_nothing_of_the_living() {
    let folder = tempfile::tempdir().unwrap();
    let living = open(folder.path());
    let bytes = content(3 * BLOCK, 1);
    let name = ObjectName::random(1);
    let mut writer = living.create(name).await.unwrap();
    writer.write(bytes.clone().into()).await.unwrap();
    until("the file is there", || temporary(folder.path()).len() == 1).await;
    // Two dead owners: one whose lock file is still there, one without.
    let tmp = folder.path().join("tmp");
    for left in ["0123456789abcdef0123456789abcdef.lock", "0123456789abcdef0123456789abcdef-0", "fedcba-17"] {
        std::fs::write(tmp.join(left), b"left").unwrap();
    }
    let second = open(folder.path());
    let left: Vec<_> = std::fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "two locks and one file of the living: {left:?}");
    writer.complete(BlockChecksums::of(&bytes)).await.unwrap();
    assert_eq!(second.stat(&name).await.unwrap().size, bytes.len() as u64);
    drop((living, second));
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "closed stores leave nothing");
}

#[tokio::test]
async fn a_store_is_swept_without_being_opened_and_without_making_anything() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    FsStore::sweep(&root).unwrap();
    assert!(!root.exists(), "there was none");
    let living = open(&root);
    let mut writer = living.create(ObjectName::random(1)).await.unwrap();
    writer.write(content(3 * BLOCK, 1).into()).await.unwrap();
    until("the file is there", || temporary(&root).len() == 1).await;
    let living = temporary(&root);
    std::fs::write(root.join("tmp/0123456789abcdef0123456789abcdef-0"), b"left").unwrap();
    FsStore::sweep(&root).unwrap();
    assert_eq!(temporary(&root), living, "only what the dead left is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_name_a_store_at_once_agree() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let cluster = ClusterId::random();
        let nodes: Vec<_> = (0..6).map(|_| open(folder.path())).collect();
        let named = nodes.into_iter().map(|node| tokio::spawn(async move { node.identify(cluster).await }));
        let ids = futures::future::try_join_all(named).await.unwrap();
        let ids: Vec<_> = ids.into_iter().collect::<Result<_, _>>().unwrap();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
        assert_eq!(open(folder.path()).identify(cluster).await.unwrap(), ids[0], "after a restart");
    }
}

#[tokio::test]
async fn a_marker_that_is_not_ours_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = ClusterId::random();
    let id = open(folder.path()).identify(cluster).await.unwrap();
    let marker = folder.path().join("atoll-store.json");
    let good = std::fs::read_to_string(&marker).unwrap();
    assert!(good.contains(&id.to_string()) && good.contains(&cluster.to_string()), "{good}");
    for (bad, says) in [
        (String::new(), "backup"),
        ("{}".to_owned(), "backup"),
        (good.replace("\"fs\"", "\"s3\""), "kind s3"),
        (good.replace("\"format\":1", "\"format\":2"), "layout 2"),
        (good.replace(&cluster.to_string(), &ClusterId::random().to_string()), "another"),
    ] {
        std::fs::write(&marker, &bad).unwrap();
        let says = if says == "another" { cluster.to_string() } else { says.to_owned() };
        match open(folder.path()).identify(cluster).await {
            Err(StoreError::Marker(text)) => assert!(text.contains(&says), "{text}"),
            other => panic!("{bad}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_store_that_was_unmounted_or_swapped_is_not_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let (root, aside) = (folder.path().join("mount"), folder.path().join("aside"));
    let store = open(&root);
    store.identify(ClusterId::random()).await.unwrap();
    let name = put(&store, b"bytes").await.unwrap();
    std::fs::rename(&root, &aside).unwrap();
    std::fs::create_dir(&root).unwrap();
    for result in [
        store.stat(&name).await.map(drop),
        store.read(&name, 0..1).await.map(drop),
        store.delete(&name).await,
        store.list(None, 1).await.map(drop),
        put(&store, b"bytes").await.map(drop),
        put(&store, &content(3 * BLOCK, 1)).await.map(drop),
    ] {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert!(matches!(store.probe().await, Err(StoreError::Marker(_))));
    let other = open(&root);
    other.identify(ClusterId::random()).await.unwrap();
    assert!(matches!(store.probe().await, Err(StoreError::Marker(_))), "another store in its place");
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::rename(&aside, &root).unwrap();
    store.probe().await.unwrap();
    assert_eq!(store.stat(&name).await.unwrap().size, 5);
}

#[tokio::test]
async fn readers_that_do_not_read_keep_nobody_from_reading() {
    let folder = tempfile::tempdir().unwrap();
    let options = FsOptions { io_concurrency: 2, ..FsOptions::default() };
    let store = Arc::new(FsStore::open(folder.path().to_owned(), options).unwrap());
    let bytes = content(20 * BLOCK, 1);
    let name = put(&store, &bytes).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..32 {
        let mut body = store.read(&name, 0..bytes.len() as u64).await.unwrap();
        // Polled until it reads ahead, then left alone.
        for _ in 0..2 {
            body.next().await.unwrap().unwrap();
        }
        idle.push(body);
    }
    let busy = async {
        let pieces: Vec<Bytes> = store.read(&name, 0..bytes.len() as u64).await.unwrap().try_collect().await.unwrap();
        pieces.concat()
    };
    assert_eq!(tokio::time::timeout(DEADLINE, busy).await.unwrap(), bytes);
    for body in idle {
        let rest: Vec<Bytes> = body.try_collect().await.unwrap();
        assert_eq!(rest.concat(), bytes[2 * BLOCK..]);
    }
}

#[tokio::test]
async fn a_reader_goes_on_when_its_object_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(9 * BLOCK, 1);
    let name = put(&store, &bytes).await.unwrap();
    let body = store.read(&name, 0..bytes.len() as u64).await.unwrap();
    store.delete(&name).await.unwrap();
    let pieces: Vec<Bytes> = body.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), bytes);
}

#[tokio::test]
async fn strangers_in_the_folders_are_left_alone_and_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let name = put(&store, b"bytes").await.unwrap();
    for stranger in ["objects/00/README", "objects/ab/7-cd000000000000000000000000000001", "objects/stray", "tmp/note"]
    {
        std::fs::write(folder.path().join(stranger), b"stranger").unwrap();
    }
    let listed = open(folder.path()).list(None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|info| (info.name, info.size)).collect::<Vec<_>>(), vec![(name, 5)]);
    assert!(folder.path().join("tmp/note").exists());
}

#[tokio::test]
async fn nobody_else_on_the_machine_can_read_a_blob() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let store = open(&root);
    let name = put(&store, &content(3 * BLOCK, 1)).await.unwrap();
    for path in
        [root.clone(), root.join("tmp"), root.join("objects"), root.join("objects/00"), root.join(name.to_string())]
    {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{} has mode {mode:o}", path.display());
    }
}

//! The data folder: one node's, marked and locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_fault::step_io;
use atoll_types::{ClusterId, Incarnation, NodeId, NodeName};
use parking_lot::Mutex;

use crate::durable;
use crate::error::{Result, StorageError};

/// Version of the layout that this build writes and reads.
const FORMAT: u32 = 1;
const MARKER: &str = "atoll.json";
const MARKER_BYTES_MAX: u64 = 64 << 10;
const LOCK: &str = "atoll.lock";
/// What a folder may hold and still count as empty: what `open` itself leaves when it is killed, and what `mkfs` makes.
const EMPTY: [&str; 3] = [LOCK, "atoll.tmp", "lost+found"];

/// Who opens a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderIdentity {
    /// The cluster, where the configuration or a join already names it.
    pub cluster: Option<ClusterId>,
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
}

/// What stands in a data folder about whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Marker {
    /// Version of the folder's layout.
    pub format: u32,
    /// The cluster; `None` until the node is a member of one.
    pub cluster: Option<ClusterId>,
    /// The cluster's epoch; zero until the node has taken part in one.
    pub epoch: u64,
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// Random, made with the folder: a wiped and recreated folder has another, so that a lost disk is noticed. `None`
    /// only in a marker of an early build, until the folder is opened.
    #[serde(default)]
    pub incarnation: Option<Incarnation>,
}

/// A node's data folder, held with an exclusive lock for as long as the value lives.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    marker: Mutex<Marker>,
    incarnation: Incarnation,
    /// Shared with what is opened in the folder: the operating system releases the lock when the last of them closes
    /// the file, however the process ends.
    lock: Arc<File>,
}

impl DataFolder {
    /// Opens a folder and locks it; creates it where it does not exist or is empty. Refused when another process has
    /// it, when it is another cluster's or node's, or when it holds something that is not Atoll's.
    pub fn open(path: impl Into<PathBuf>, identity: &FolderIdentity) -> Result<Self> {
        let path = path.into();
        // Looked at before the lock file is made, so that nothing is left in a folder that is not ours.
        if Self::peek(&path)?.is_none() {
            check_empty(&path)?;
        }
        durable::create_dir(&path)?;
        let lock = lock(&path)?;
        let marker = match Self::peek(&path)? {
            Some(marker) => check_marker(&path, marker, identity)?,
            None => new_marker(&path, identity)?,
        };
        for folder in ["log", "state", "snapshots"] {
            let folder = path.join(folder);
            step_io!("folder.create", StorageError::io("create", &folder), durable::create_dir(&folder))?;
        }
        let (marker, incarnation) = with_incarnation(&path, marker)?;
        let folder = Self { path, marker: Mutex::new(marker), incarnation, lock: Arc::new(lock) };
        if let Some(cluster) = identity.cluster {
            folder.bind_cluster(cluster, folder.marker().epoch)?;
        }
        Ok(folder)
    }

    /// Reads a folder's marker without locking it; `None` where there is none.
    pub fn peek(path: &Path) -> Result<Option<Marker>> {
        let file = path.join(MARKER);
        let mut text = Vec::new();
        match File::open(&file).and_then(|f| f.take(MARKER_BYTES_MAX).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("read", &file)(error)),
        }
        let corrupt = |e: serde_json::Error| StorageError::corrupt(&file, format!("it is not a marker: {e}"));
        serde_json::from_slice(&text).map(Some).map_err(corrupt)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The marker as it stands now.
    pub fn marker(&self) -> Marker {
        self.marker.lock().clone()
    }

    /// Which folder this is: a folder that was emptied and made anew has another.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Binds the folder to a cluster, or raises its epoch; synced when it returns. Refused when the folder is bound to
    /// another cluster, or the epoch would go back.
    pub fn bind_cluster(&self, cluster: ClusterId, epoch: u64) -> Result<()> {
        let mut marker = self.marker.lock();
        if let Some(other) = marker.cluster.filter(|bound| *bound != cluster) {
            return Err(foreign(&self.path, format!("belongs to cluster {other}, not to {cluster}")));
        }
        if epoch < marker.epoch {
            let why = format!("has epoch {} of its cluster already, later than {epoch}", marker.epoch);
            return Err(foreign(&self.path, why));
        }
        if marker.cluster == Some(cluster) && marker.epoch == epoch {
            return Ok(());
        }
        let bound = Marker { cluster: Some(cluster), epoch, ..marker.clone() };
        write_marker(&self.path, &bound)?;
        *marker = bound;
        Ok(())
    }

    /// Makes sure that the folder is this cluster's and of this epoch; one that is of none yet (epoch zero) becomes so.
    /// Another epoch is refused, a later one too: a recovery left behind what this folder holds, and only it may raise
    /// the epoch, with [`DataFolder::bind_cluster`].
    pub fn claim(&self, cluster: ClusterId, epoch: u64) -> Result<()> {
        let bound = self.marker().epoch;
        if bound != 0 && bound != epoch {
            let why = format!(
                "is of epoch {bound} of its cluster, and the configuration says epoch {epoch} (set it back if that was a \
                 mistake): what an earlier epoch left must not come back"
            );
            return Err(foreign(&self.path, why));
        }
        self.bind_cluster(cluster, epoch)
    }

    /// Keeps the folder locked for as long as it lives.
    pub(crate) fn lock(&self) -> Arc<File> {
        self.lock.clone()
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.path.join("snapshots")
    }
}

fn foreign(path: &Path, why: impl Into<String>) -> StorageError {
    StorageError::FolderForeign { path: path.to_owned(), why: why.into() }
}

fn check_empty(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    match durable::list(path)?.into_iter().find(|name| !EMPTY.contains(&name.as_str())) {
        Some(name) => Err(foreign(path, format!("is not empty (it has {name:?}) and has no Atoll marker"))),
        None => Ok(()),
    }
}

fn check_marker(path: &Path, marker: Marker, identity: &FolderIdentity) -> Result<Marker> {
    if marker.format != FORMAT {
        let why = format!("has layout {} and this build reads {FORMAT}: use the build that wrote it", marker.format);
        return Err(foreign(path, why));
    }
    if marker.node != identity.node || marker.name != identity.name {
        let why =
            format!("belongs to node {} ({}), not to {} ({})", marker.name, marker.node, identity.name, identity.node);
        return Err(foreign(path, why));
    }
    Ok(marker)
}

fn new_marker(path: &Path, identity: &FolderIdentity) -> Result<Marker> {
    check_empty(path)?;
    let marker = Marker {
        format: FORMAT,
        cluster: identity.cluster,
        epoch: 0,
        node: identity.node,
        name: identity.name.clone(),
        incarnation: Some(Incarnation::random()),
    };
    write_marker(path, &marker)?;
    Ok(marker)
}

/// A marker that names its incarnation; one of an early build gets it now, synced.
fn with_incarnation(path: &Path, marker: Marker) -> Result<(Marker, Incarnation)> {
    if let Some(incarnation) = marker.incarnation {
        return Ok((marker, incarnation));
    }
    let incarnation = Incarnation::random();
    let marker = Marker { incarnation: Some(incarnation), ..marker };
    write_marker(path, &marker)?;
    Ok((marker, incarnation))
}

fn write_marker(path: &Path, marker: &Marker) -> Result<()> {
    let file = path.join(MARKER);
    let text = serde_json::to_vec_pretty(marker).map_err(|e| StorageError::io("encode", &file)(e.into()))?;
    step_io!("folder.marker", StorageError::io("write", &file), durable::replace_file(&file, &text))
}

/// Takes the lock and leaves this process' id in its file for the message that a second process prints.
fn lock(path: &Path) -> Result<File> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&name).map_err(StorageError::io("open", &name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StorageError::FolderInUse { path: path.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(StorageError::io("lock", &name)(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    written.map_err(StorageError::io("write", &name))?;
    Ok(file)
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: Option<u8>, node: u64, name: &str) -> FolderIdentity {
        FolderIdentity {
            cluster: cluster.map(|b| ClusterId::from_bytes([b; 16])),
            node: NodeId(node),
            name: name.parse().expect("a name"),
        }
    }

    fn refusal(path: &Path, identity: &FolderIdentity) -> String {
        DataFolder::open(path, identity).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_folder_is_opened_again_by_the_same_node_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/data");
        let ours = identity(Some(1), 1, "us-east-1");
        let first = DataFolder::open(&path, &ours).expect("a new folder").marker();
        assert_eq!(DataFolder::open(&path, &ours).expect("the same node").marker(), first);
        assert_eq!(DataFolder::peek(&path).expect("a marker"), Some(first));

        assert!(refusal(&path, &identity(Some(2), 1, "us-east-1")).contains("belongs to cluster 0101"));
        assert!(refusal(&path, &identity(Some(1), 2, "us-east-1")).contains("belongs to node us-east-1 (1)"));
        assert!(refusal(&path, &identity(Some(1), 1, "eu-west-1")).contains("not to eu-west-1"));
        let unknown = DataFolder::open(&path, &identity(None, 1, "us-east-1")).expect("the cluster is in the marker");
        assert_eq!(unknown.marker().cluster, ours.cluster);
    }

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let ours = identity(None, 1, "n");
        let held = DataFolder::open(dir.path(), &ours).expect("a new folder");
        let message = refusal(dir.path(), &ours);
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        assert!(DataFolder::peek(dir.path()).expect("no lock is needed").is_some());
        drop(held);
        DataFolder::open(dir.path(), &ours).expect("the lock is released");
    }

    #[test]
    fn a_folder_that_is_not_atolls_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("thesis.txt"), "years of work").expect("a file");
        let message = refusal(dir.path(), &identity(None, 1, "n"));
        assert!(message.contains("thesis.txt"), "{message}");
        assert_eq!(durable::list(dir.path()).expect("a list"), ["thesis.txt"], "nothing was added");
    }

    #[test]
    fn what_a_crash_leaves_of_a_new_folder_does_not_count_as_foreign() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("atoll.tmp"), "{\"form").expect("half a marker");
        std::fs::write(dir.path().join(LOCK), "1").expect("a lock file");
        DataFolder::open(dir.path(), &identity(None, 1, "n")).expect("it is as good as empty");
    }

    #[test]
    fn a_cluster_is_bound_once_and_its_epoch_only_grows() {
        let dir = tempfile::tempdir().expect("a folder");
        let ours = identity(None, 1, "n");
        let cluster = ClusterId::from_bytes([7; 16]);
        let folder = DataFolder::open(dir.path(), &ours).expect("a new folder");
        assert_eq!(folder.marker().cluster, None);
        folder.bind_cluster(cluster, 3).expect("bound");
        folder.bind_cluster(cluster, 3).expect("nothing changes");
        assert!(folder.bind_cluster(cluster, 2).is_err());
        assert!(folder.bind_cluster(ClusterId::from_bytes([8; 16]), 4).is_err());
        drop(folder);
        let marker = DataFolder::open(dir.path(), &ours).expect("it opens").marker();
        assert_eq!((marker.cluster, marker.epoch), (Some(cluster), 3));
    }

    #[test]
    fn a_folder_keeps_its_incarnation_until_it_is_emptied() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("data");
        let ours = identity(Some(1), 1, "n");
        let open = || DataFolder::open(&path, &ours).expect("it opens").incarnation();
        let first = open();
        assert_eq!(open(), first);
        std::fs::remove_dir_all(&path).expect("the disk is lost");
        assert_ne!(open(), first);
    }

    #[test]
    fn a_folder_of_an_early_build_gets_an_incarnation_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let ours = identity(Some(1), 1, "n");
        let marker = DataFolder::open(dir.path(), &ours).expect("a new folder").marker();
        let mut text = serde_json::to_value(&marker).expect("JSON");
        text.as_object_mut().expect("an object").remove("incarnation");
        std::fs::write(dir.path().join(MARKER), text.to_string()).expect("an early marker");
        let made = DataFolder::open(dir.path(), &ours).expect("it opens").incarnation();
        assert_eq!(DataFolder::open(dir.path(), &ours).expect("it opens").incarnation(), made);
        assert_eq!(DataFolder::peek(dir.path()).expect("a marker").and_then(|m| m.incarnation), Some(made));
    }

    #[test]
    fn a_claimed_folder_keeps_its_epoch() {
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = ClusterId::from_bytes([7; 16]);
        let folder = DataFolder::open(dir.path(), &identity(None, 1, "n")).expect("a new folder");
        folder.claim(cluster, 2).expect("it is of no cluster yet");
        folder.claim(cluster, 2).expect("nothing changes");
        for other in [0, 1, 3] {
            let why = folder.claim(cluster, other).expect_err("another epoch").to_string();
            assert!(why.contains("is of epoch 2") && why.contains(&format!("says epoch {other}")), "{why}");
        }
        folder.claim(ClusterId::from_bytes([8; 16]), 2).expect_err("another cluster");
        folder.bind_cluster(cluster, 3).expect("a recovery raises it");
        folder.claim(cluster, 3).expect("and it is claimed by that");
        assert_eq!(DataFolder::peek(dir.path()).expect("a marker").map(|m| m.epoch), Some(3));
    }

    #[test]
    fn a_damaged_marker_and_a_newer_layout_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let ours = identity(None, 1, "n");
        let mut marker = DataFolder::open(dir.path(), &ours).expect("a new folder").marker();
        marker.format = FORMAT + 1;
        write_marker(dir.path(), &marker).expect("written");
        assert!(refusal(dir.path(), &ours).contains("layout"));
        std::fs::write(dir.path().join(MARKER), "{").expect("written");
        assert!(refusal(dir.path(), &ours).contains("corrupt"));
    }
}

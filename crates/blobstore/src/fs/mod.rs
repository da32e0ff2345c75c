//! A folder on a POSIX file system as an object store.
//!
//! ```text
//! ROOT/atoll-store.json            the marker: which cluster and store this is
//! ROOT/objects/<2 hex>/<name>      an object and its footer (see `footer`)
//! ROOT/tmp/<owner>.lock            locked as long as its owner lives
//! ROOT/tmp/<owner>-<n>             being written
//! ```
//!
//! The folder may be a mount that several nodes share, if it has working locks and renames (NFS from version 4 on).

mod buffers;
mod cached;
mod error;

mod list;
mod marker;
mod pool;
mod read;
mod temp;
mod write;

use std::convert::identity;
use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use atoll_fault::step_io;
use atoll_types::{ClusterId, ObjectName, StoreId};

use self::buffers::Buffers;
use self::cached::FromMemory;
use self::error::{object_error, store_error};
use self::pool::Pool;
use self::temp::TempFolder;
use crate::{BlobStore, BlockChecksums, ByteStream, ObjectInfo, ObjectWriter, StoreError};

/// Bounds of a store in a folder.
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// How many file operations run at once; others wait. Each takes a thread while it runs.
    pub io_concurrency: usize,
    /// After how long an operation that does not return is given up: [`StoreError::Unavailable`].
    pub io_wait_max: Duration,
    /// The same for the completion of an object, which has to wait until all of its bytes are on the disk.
    pub sync_wait_max: Duration,
}

impl Default for FsOptions {
    fn default() -> Self {
        Self { io_concurrency: 64, io_wait_max: Duration::from_secs(30), sync_wait_max: Duration::from_secs(600) }
    }
}

/// An object store in a folder.
#[derive(Clone)]
pub struct FsStore {
    shared: Arc<Shared>,
}

/// What the store, its writers and its streams have in common.
struct Shared {
    root: PathBuf,
    temp: TempFolder,
    pool: Pool,
    buffers: Buffers,
    memory: FromMemory,
    sync_wait_max: Duration,
    identity: OnceLock<StoreId>,
}

impl FsStore {
    /// Opens a store in a folder, which is made if it is not there, and removes what earlier processes left
    /// unfinished. It blocks: call it before the node serves, or on a thread of its own.
    pub fn open(root: PathBuf, options: FsOptions) -> Result<Self, StoreError> {
        prepare_folders(&root).map_err(|e| store_error(&format!("preparing {}", root.display()), &e))?;
        let temp = TempFolder::open(root.join("tmp"))
            .map_err(|e| store_error(&format!("taking a lock in {}", root.join("tmp").display()), &e))?;
        let pool = Pool::new(options.io_concurrency, options.io_wait_max);
        let (buffers, memory) = (Buffers::default(), FromMemory::of(&root));
        let (sync_wait_max, identity) = (options.sync_wait_max, OnceLock::new());
        Ok(Self { shared: Arc::new(Shared { root, temp, pool, buffers, memory, sync_wait_max, identity }) })
    }

    /// Removes what earlier processes left unfinished, as opening does, but makes nothing: on a disk without any room it
    /// may be what gives some. It is no error if there is no store. It blocks.
    pub fn sweep(root: &Path) -> Result<(), StoreError> {
        let folder = root.join("tmp");
        match temp::sweep(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(store_error(&format!("removing unfinished uploads from {}", folder.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Runs a file operation where it may block, and waits for it no longer than is allowed.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Arc<Shared>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        self.shared.pool.run(move || job(&shared)).await
    }
}

impl Shared {
    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.to_string())
    }

    /// Says what a missing file means: only if its folder is there is it the object that is missing. An unmounted
    /// disk must never look like an empty store, or all of its copies would be given up.
    fn object_error(&self, name: &ObjectName, doing: &str, error: &io::Error) -> StoreError {
        let folder = self.path(name).parent().map(Path::to_owned);
        if error.kind() == io::ErrorKind::NotFound && !folder.is_some_and(|f| f.is_dir()) {
            let root = self.root.display();
            return StoreError::Unavailable(format!("the folders of {root} are gone; is its file system mounted?"));
        }
        object_error(name, doing, error)
    }
}

#[async_trait]
impl BlobStore for FsStore {
    fn kind(&self) -> &'static str {
        "fs"
    }

    async fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Ok(Box::new(write::FsWriter::new(self.shared.clone(), name)))
    }

    async fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let name = *name;
        self.run(move |shared| read::stat(shared, name)).await
    }

    async fn checksums(&self, name: &ObjectName) -> Result<Arc<BlockChecksums>, StoreError> {
        let name = *name;
        self.run(move |shared| read::checksums(shared, name)).await.map(Arc::new)
    }

    async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<ByteStream, StoreError> {
        read::stream(&self.shared, *name, range).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let name = *name;
        self.run(move |shared| delete(shared, name)).await
    }

    async fn list(&self, after: Option<&ObjectName>, limit: usize) -> Result<Vec<ObjectInfo>, StoreError> {
        let after = after.copied();
        list::page(&self.shared, after, limit).await
    }

    async fn identify(&self, cluster: ClusterId) -> Result<StoreId, StoreError> {
        self.run(move |shared| marker::identify(shared, cluster)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.run(|shared| marker::probe(shared)).await
    }
}

fn delete(shared: &Shared, name: ObjectName) -> Result<(), StoreError> {
    let path = shared.path(&name);
    match step_io!("object.delete", identity, std::fs::remove_file(&path)) {
        Ok(()) => {}
        // Synced even so: who removed it may not have come to that, and what is acknowledged must be durable.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(shared.object_error(&name, "removing", &e)),
    }
    let synced = step_io!("object.delete_sync", identity, sync_parent(&path));
    synced.map_err(|e| shared.object_error(&name, "syncing the removal of", &e))
}

/// Makes all folders at once, so that completing an object never has to make and sync one.
fn prepare_folders(root: &Path) -> io::Result<()> {
    make_folder(root)?;
    make_folder(&root.join("tmp"))?;
    let objects = root.join("objects");
    make_folder(&objects)?;
    for shard in 0..=u8::MAX {
        let shard = objects.join(format!("{shard:02x}"));
        if !shard.is_dir() {
            create_folder(&shard)?;
        }
    }
    step_io!("store.folders", identity, sync_folder(&objects).and_then(|()| sync_folder(root)))
}

/// Makes a folder and those above it, each synced into the one that holds it.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    create_folder(path)?;
    sync_parent(path)
}

/// Nobody but the node's user and group may look into it: bytes leave through the registry's access rules only.
fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

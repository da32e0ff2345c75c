//! A complete snapshot on this disk.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use atoll_fault::step_io;
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::manifest::{ManifestFile, SnapshotManifest, invalid};
use crate::Applied;
use crate::durable::{self, DirGuard};
use crate::error::{Result, StorageError};
use crate::state::Position;

/// The manifest's file in a snapshot's folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// Stands in the folder of a snapshot that was received and is not installed yet. It does not count: what is in it may
/// contradict the log's tail, which Raft takes back before it installs.
pub(super) const ARRIVED: &str = "arrived";
/// The folder of the database in a snapshot's folder.
pub(super) const DATABASE: &str = "db";

/// Some bytes of a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; fewer than asked for at the file's end.
    pub data: Bytes,
    /// CRC-32 (IEEE) of them.
    pub crc: u32,
}

/// A complete, verified, synced snapshot on this disk. Its files stay for as long as the value lives.
#[derive(Debug)]
pub struct Checkpoint {
    manifest: SnapshotManifest,
    encoded: Bytes,
    position: Position,
    dir: DirGuard,
    /// Its bytes were found to be others than its manifest says.
    damaged: AtomicBool,
}

impl Checkpoint {
    /// Most bytes of one chunk.
    pub const CHUNK_BYTES_MAX: usize = 1 << 20;

    /// Opens a snapshot's folder. Sizes are checked, bytes are not: that would read all of them at every start.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let name = path.join(MANIFEST);
        let encoded = std::fs::read(&name).map_err(StorageError::io("read", &name))?;
        let manifest = SnapshotManifest::decode(&encoded)?;
        for file in &manifest.files {
            let name = path.join(DATABASE).join(&file.name);
            let size = name.metadata().map_err(StorageError::io("look at", &name))?.len();
            if size != file.size {
                return Err(StorageError::corrupt(&name, format!("it has {size} bytes and not {}", file.size)));
            }
        }
        let position = manifest.position()?;
        let damaged = AtomicBool::new(false);
        let dir = DirGuard::with_head(path, MANIFEST);
        Ok(Self { manifest, encoded: encoded.into(), position, dir, damaged })
    }

    /// Whether a snapshot's folder has one that was received and did not count yet.
    pub(super) fn is_arrived(path: &Path) -> bool {
        path.join(ARRIVED).exists()
    }

    /// What it is made of.
    pub fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    /// The manifest as it travels.
    pub fn manifest_bytes(&self) -> Bytes {
        self.encoded.clone()
    }

    /// How far the state had come, as read from inside the snapshot.
    pub fn applied(&self) -> &Applied {
        &self.position.applied
    }

    /// The state hash at that revision.
    pub fn state_hash(&self) -> u128 {
        self.position.hash
    }

    /// Reads some bytes of a file, at most [`Checkpoint::CHUNK_BYTES_MAX`]; none at its end.
    pub fn read_chunk(&self, file: &str, offset: u64, len_max: usize) -> Result<Chunk> {
        let size = self.manifest.file(file)?.size;
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; len_max.min(Self::CHUNK_BYTES_MAX).min(left)];
        let path = self.file_path(file);
        let read = File::open(&path).and_then(|f| f.read_exact_at(&mut data, offset));
        read.map_err(StorageError::io("read", &path))?;
        Ok(Chunk { crc: crc32fast::hash(&data), data: data.into() })
    }

    /// Reads every file and compares it with the manifest: for a snapshot that a receiver keeps refusing. One that is
    /// damaged is not given to anybody from then on.
    pub fn verify(&self) -> Result<()> {
        match self.manifest.files.iter().find_map(|file| self.verify_file(file).err()) {
            Some(error) => {
                self.damaged.store(true, Ordering::Release);
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Whether it was found to be damaged.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    fn verify_file(&self, file: &ManifestFile) -> Result<()> {
        let path = self.file_path(&file.name);
        if describe(&path, &file.name)? == *file {
            return Ok(());
        }
        Err(StorageError::corrupt(&path, "its bytes are not what the snapshot's manifest says"))
    }

    pub(crate) fn position(&self) -> Position {
        self.position.clone()
    }

    /// Makes a database of its own out of the snapshot: what RocksDB never changes is linked, the rest is copied.
    pub(crate) fn clone_files_to(&self, folder: &Path) -> Result<()> {
        durable::remove_dir(folder)?;
        std::fs::create_dir(folder).map_err(StorageError::io("create", folder))?;
        for file in &self.manifest.files {
            let (from, to) = (self.file_path(&file.name), folder.join(&file.name));
            // A file system without hard links gets a copy.
            if file.name.ends_with(".sst") && std::fs::hard_link(&from, &to).is_ok() {
                continue;
            }
            std::fs::copy(&from, &to).map_err(StorageError::io("copy", &from))?;
            durable::sync_file(&to)?;
        }
        durable::sync_dir(folder)
    }

    /// Removes the snapshot once nobody reads it any more.
    pub(super) fn condemn(&self) {
        self.dir.condemn();
    }

    /// Lets it count; durable when this returns. Installing or overtaking it must be durable before.
    pub(super) fn promote(&self) -> Result<()> {
        let marker = self.dir.path().join(ARRIVED);
        step_io!("snapshot.promote", StorageError::io("remove", &marker), durable::remove_file(&marker))?;
        self.dir.spare();
        Ok(())
    }

    fn file_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(DATABASE).join(name)
    }
}

/// Removes the folder of a snapshot that may be complete: without its manifest it is none, whenever a crash comes.
pub(super) fn remove(folder: &Path) -> Result<()> {
    durable::remove_dir_head_first(folder, MANIFEST)
}

/// Reads a file and describes it as a manifest does.
pub(super) fn describe(path: &Path, name: &str) -> Result<ManifestFile> {
    let mut file = File::open(path).map_err(StorageError::io("open", path))?;
    let (mut hasher, mut size) = (Xxh3::new(), 0_u64);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(StorageError::io("read", path))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        size = size.checked_add(read as u64).ok_or_else(|| invalid("a file is too large".to_owned()))?;
    }
    Ok(ManifestFile { name: name.to_owned(), size, xxh3: format!("{:032x}", hasher.digest128()) })
}

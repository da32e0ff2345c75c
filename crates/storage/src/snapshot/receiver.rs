//! Receiving a snapshot, chunk by chunk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atoll_fault::{planted, step_io};

use super::checkpoint::{self, ARRIVED, Checkpoint, DATABASE, MANIFEST, describe};
use super::manifest::{SnapshotManifest, invalid};
use super::store::{ARRIVING, Inner};
use crate::Resources;
use crate::durable;
use crate::error::{Result, StorageError};
use crate::state::Db;

/// Disk that must stay free beside a snapshot that arrives, in bytes: the log goes on meanwhile.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// Held by the one receiver that there may be.
#[derive(Debug, Default)]
pub(super) struct Lease(AtomicBool);

/// Gives the lease back when it is dropped.
pub(super) struct Held(Arc<Lease>);

impl Lease {
    pub(super) fn take(lease: &Arc<Self>) -> Option<Held> {
        if lease.0.swap(true, Ordering::AcqRel) { None } else { Some(Held(lease.clone())) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// How much of a file is here already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProgress {
    /// The file.
    pub name: String,
    /// How many bytes are here; the next chunk starts there.
    pub received: u64,
    /// How many there will be.
    pub size: u64,
}

/// Receives a snapshot, chunk by chunk. What has arrived outlives the value and the process.
pub struct SnapshotReceiver {
    store: Arc<Inner>,
    resources: Resources,
    manifest: SnapshotManifest,
    progress: Vec<FileProgress>,
    folder: PathBuf,
    /// The snapshot was complete already when its transfer began anew.
    complete: Option<Arc<Checkpoint>>,
    _lease: Held,
}

impl SnapshotReceiver {
    pub(super) fn begin(
        store: Arc<Inner>,
        resources: Resources,
        manifest: SnapshotManifest,
        lease: Held,
    ) -> Result<Self> {
        let complete = store.complete(&manifest.id);
        let folder = store.path.join(format!("{ARRIVING}{}", manifest.id));
        let mut receiver = Self { store, resources, manifest, progress: Vec::new(), folder, complete, _lease: lease };
        if receiver.complete.is_none() {
            receiver.prepare_folder()?;
            receiver.take_over()?;
        }
        receiver.store.forget_others(&receiver.manifest.id)?;
        receiver.progress = receiver.measure();
        receiver.check_room()?;
        Ok(receiver)
    }

    /// What is here already, file by file in the manifest's order: the sender goes on from there.
    pub fn progress(&self) -> Vec<FileProgress> {
        self.progress.clone()
    }

    /// Takes a chunk at a file's end. One that is here already is accepted and ignored.
    pub fn write_chunk(&mut self, file: &str, offset: u64, data: &[u8], crc: u32) -> Result<()> {
        let path = self.file_path(file);
        let unknown = || invalid(format!("it has no file {file:?}"));
        let progress = self.progress.iter_mut().find(|p| p.name == file).ok_or_else(unknown)?;
        let refuse = |expected, why| StorageError::ChunkRefused { file: file.to_owned(), offset, expected, why };
        if crc32fast::hash(data) != crc {
            return Err(refuse(progress.received, "its checksum does not match"));
        }
        let end = offset.saturating_add(data.len() as u64);
        if end > progress.size {
            return Err(refuse(progress.received, "it goes beyond the file's end"));
        }
        if end <= progress.received {
            return Ok(());
        }
        if offset != progress.received {
            return Err(refuse(progress.received, "it does not start where the file ends"));
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let written = || file.and_then(|f| f.write_all_at(data, offset));
        step_io!("snapshot.chunk", std::convert::identity, written()).map_err(StorageError::io("write", &path))?;
        progress.received = end;
        Ok(())
    }

    /// Verifies every file, syncs all, and yields the snapshot, ready for [`crate::StateStore::install`]: until then it
    /// does not count as one, also after a restart. Files that do not verify are reset and named in the error: send them
    /// again and call this once more.
    pub fn finish(&mut self) -> Result<Arc<Checkpoint>> {
        if let Some(complete) = &self.complete {
            return Ok(complete.clone());
        }
        let bad = self.verify()?;
        if !bad.is_empty() {
            return Err(StorageError::SnapshotIncomplete(bad));
        }
        step_io!("snapshot.arrive", StorageError::io("sync", &self.folder), self.mark_arrived())
            .map_err(|e| self.begin_anew(e))?;
        let inside = Db::open_read_only(&self.database(), &self.resources)?.position()?;
        if inside != self.manifest.position()? {
            durable::remove_dir(&self.folder)?;
            return Err(invalid("its database is not at the revision that its manifest names".to_owned()));
        }
        let place = self.store.path.join(&self.manifest.id);
        if place.exists() {
            // What an earlier transfer could not open once it was there: nobody knows of it, or it would be complete.
            checkpoint::remove(&place)?;
        }
        step_io!("snapshot.receive", StorageError::io("rename", &self.folder), durable::rename(&self.folder, &place))?;
        let checkpoint = Arc::new(Checkpoint::open(place)?);
        self.complete = Some(checkpoint.clone());
        self.store.hold(&checkpoint);
        Ok(checkpoint)
    }

    /// After a sync that failed: the bytes may be right in memory and not on the disk, and the next sync would not say so.
    /// None of them counts.
    fn begin_anew(&mut self, error: StorageError) -> StorageError {
        let emptied = durable::remove_dir(&self.folder).and_then(|()| self.prepare_folder());
        if let Err(error) = emptied {
            tracing::warn!(%error, "a snapshot whose sync failed cannot be removed");
        }
        self.progress = self.measure();
        error
    }

    /// Its bytes are all here and verified: says so beside them, and syncs the folders.
    fn mark_arrived(&self) -> Result<()> {
        durable::write_synced(&self.folder.join(ARRIVED), &[])?;
        durable::sync_dir(&self.database())?;
        durable::sync_dir(&self.folder)
    }

    /// Names of files that are not what they should be, after they were reset.
    fn verify(&mut self) -> Result<Vec<String>> {
        let mut bad = Vec::new();
        for index in 0..self.manifest.files.len() {
            let file = self.manifest.files[index].clone();
            let path = self.file_path(&file.name);
            if file.size == 0 {
                durable::write_synced(&path, &[])?;
            }
            let is_whole = self.progress[index].received == file.size;
            if is_whole && (planted!("snapshot_unchecked") || describe(&path, &file.name)? == file) {
                step_io!("snapshot.verify", StorageError::io("sync", &path), durable::sync_file(&path))
                    .map_err(|e| self.begin_anew(e))?;
                continue;
            }
            // What is whole in length and wrong in content starts anew; what is only short goes on.
            if is_whole {
                durable::write_synced(&path, &[])?;
                self.progress[index].received = 0;
            }
            bad.push(file.name);
        }
        Ok(bad)
    }

    fn prepare_folder(&self) -> Result<()> {
        durable::create_dir(&self.folder)?;
        durable::create_dir(&self.database())?;
        // Ids name bytes, so a manifest that is here already is the same one; a torn one is replaced.
        let (name, encoded) = (self.folder.join(MANIFEST), self.manifest.encode()?);
        step_io!("snapshot.begin", StorageError::io("write", &name), durable::replace_file(&name, &encoded))
    }

    /// Takes over what has arrived of the very same files in snapshots that this one replaces. A sender's snapshots share
    /// most of them; over a slow link, a transfer that begins anew with each newer one might never end. Nothing is synced:
    /// the end verifies and syncs all.
    fn take_over(&self) -> Result<()> {
        for other in self.store.arriving_others(&self.manifest.id)? {
            // One whose manifest is not there or torn has begun in vain.
            let Ok(encoded) = std::fs::read(other.join(MANIFEST)) else { continue };
            let Ok(manifest) = SnapshotManifest::decode(&encoded) else { continue };
            for file in self.manifest.files.iter().filter(|file| manifest.files.contains(file)) {
                let (from, to) = (other.join(DATABASE).join(&file.name), self.file_path(&file.name));
                if from.exists() && !to.exists() {
                    std::fs::rename(&from, &to).map_err(StorageError::io("rename", &from))?;
                }
            }
        }
        Ok(())
    }

    fn measure(&self) -> Vec<FileProgress> {
        let received = |name: &str, size: u64| match &self.complete {
            Some(_) => size,
            // Longer than it should be: not ours, and reset by the verification.
            None => self.file_path(name).metadata().map_or(0, |m| m.len().min(size)),
        };
        let progress = |file: &super::ManifestFile| FileProgress {
            name: file.name.clone(),
            received: received(&file.name, file.size),
            size: file.size,
        };
        self.manifest.files.iter().map(progress).collect()
    }

    fn check_room(&self) -> Result<()> {
        let missing = self.progress.iter().fold(0_u64, |sum, p| sum.saturating_add(p.size - p.received));
        let path = &self.store.path;
        let disk = rustix::fs::statvfs(path).map_err(|e| StorageError::io("look at", path)(e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if missing > 0 && missing.saturating_add(FREE_BYTES_MIN) > free {
            return Err(invalid(format!("{missing} bytes are missing of it and the disk has {free} left; free some")));
        }
        Ok(())
    }

    fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    fn file_path(&self, name: &str) -> PathBuf {
        self.database().join(name)
    }
}

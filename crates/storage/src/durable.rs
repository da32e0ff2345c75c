//! File operations that survive a power loss: what is renamed is synced before, and so is the folder after.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use atoll_fault::step;

use crate::error::{Result, StorageError};

/// Syncs a folder, so that what was created, renamed or removed in it stays so.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StorageError::io("sync", path))
}

/// Syncs a file's bytes.
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StorageError::io("sync", path))
}

/// Creates a folder and those above it, where they are not there; their names are durable when this returns.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_dir(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StorageError::io("create", path)(error)),
        _ => sync_parent(parent),
    }
}

/// Syncs the folder that a name stands in; `.` for a bare name.
fn sync_parent(parent: &Path) -> Result<()> {
    if parent.as_os_str().is_empty() { sync_dir(Path::new(".")) } else { sync_dir(parent) }
}

/// Replaces a file's content, all or nothing.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    write_synced(&temporary, content)?;
    rename(&temporary, path)
}

/// Writes a file and syncs its bytes, but not its name.
pub(crate) fn write_synced(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(StorageError::io("create", path))?;
    file.write_all(content).map_err(StorageError::io("write", path))?;
    file.sync_all().map_err(StorageError::io("sync", path))
}

/// Renames within one file system; durable when this returns.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(StorageError::io("rename", from))?;
    for path in [to, from] {
        path.parent().map_or(Ok(()), sync_parent)?;
    }
    Ok(())
}

/// Removes a file, if it is there; durable when this returns.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StorageError::io("remove", path)(error)),
        Ok(()) => {}
    }
    path.parent().map_or(Ok(()), sync_parent)
}

/// Removes a folder and all in it, if it is there.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StorageError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it, if it is there: first the file by which it counts.
pub(crate) fn remove_dir_head_first(path: &Path, head: &str) -> Result<()> {
    if path.exists() {
        remove_file(&path.join(head))?;
    }
    remove_dir(path)
}

/// Names of what stands in a folder, in order; those that are not UTF-8 are skipped, since nothing here makes any.
pub(crate) fn list(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(StorageError::io("list", path))? {
        let entry = entry.map_err(StorageError::io("list", path))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// A folder that can be condemned: it is removed when the last user is gone.
#[derive(Debug)]
pub(crate) struct DirGuard {
    path: std::path::PathBuf,
    head: Option<&'static str>,
    condemned: std::sync::atomic::AtomicBool,
}

impl DirGuard {
    pub(crate) fn new(path: std::path::PathBuf) -> Self {
        Self { path, head: None, condemned: std::sync::atomic::AtomicBool::new(false) }
    }

    /// Of a folder that counts by a file in it, which is removed first.
    pub(crate) fn with_head(path: std::path::PathBuf, head: &'static str) -> Self {
        Self { path, head: Some(head), condemned: std::sync::atomic::AtomicBool::new(false) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder once the value is dropped.
    pub(crate) fn condemn(&self) {
        self.condemned.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Keeps the folder after all.
    pub(crate) fn spare(&self) {
        self.condemned.store(false, std::sync::atomic::Ordering::Release);
    }
}

impl Drop for DirGuard {
    fn drop(&mut self) {
        if !self.condemned.load(std::sync::atomic::Ordering::Acquire) {
            return;
        }
        let remove = || match self.head {
            Some(head) => remove_dir_head_first(&self.path, head),
            None => remove_dir(&self.path),
        };
        if let Err(error) = step!("folder.remove", remove()) {
            // The next start clears it away.
            tracing::warn!(%error, "cannot remove a folder that is no longer needed");
        }
    }
}

//! Files being written. They bear their owner's name, and an owner holds a lock as long as it lives, so that two nodes
//! on one mount never sweep each other's.

use std::convert::identity;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_fault::{planted, step_io};

/// The folder for temporary files, with the lock of this owner.
pub(super) struct TempFolder {
    folder: PathBuf,
    owner: String,
    next: AtomicU64,
    /// Held, not used: closing it sets the lock free.
    _lock: File,
}

impl TempFolder {
    /// Takes a new owner's lock and removes the files of all owners that are gone.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        let (owner, lock) = take_lock(&folder)?;
        if let Err(error) = sweep(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "unfinished uploads of earlier runs were not all removed");
        }
        Ok(Self { folder, owner, next: AtomicU64::new(0), _lock: lock })
    }

    /// A new, empty file, removed when it is dropped.
    pub(super) fn create(&self) -> io::Result<TempFile> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{}-{number}", self.owner));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(&path)?;
        Ok(TempFile { file: Some(file), path, length: 0, is_linked: true })
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // A lock that stays behind is free, and swept by the next owner.
        let _ = std::fs::remove_file(lock_path(&self.folder, &self.owner));
    }
}

/// A file being written. Dropping it removes it.
pub(super) struct TempFile {
    /// `None` while it is closed.
    file: Option<File>,
    path: PathBuf,
    /// How many bytes were written.
    length: u64,
    is_linked: bool,
}

impl TempFile {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it takes a descriptor.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Gives its descriptor back until it is used again. What was written is synced first: whoever opens the file
    /// later may not be told that writing it back has failed meanwhile (fsync(2)).
    pub(super) fn close(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            step_io!("object.park", identity, file.sync_data())?;
        }
        Ok(())
    }

    /// Writes at its end.
    pub(super) fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.open()?.write_all(chunk)?;
        self.length += chunk.len() as u64;
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.open()?.sync_all()
    }

    /// Opens it again where it is closed. What is there must be what was written.
    fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
                let (found, length, path) = (file.seek(SeekFrom::End(0))?, self.length, self.path.display());
                if found != length {
                    return Err(io::Error::other(format!("{path} has {found} bytes, not the {length} written")));
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// Makes it durable and visible under a name that must be free: bytes, then the name, then the folder.
    pub(super) fn publish(mut self, target: &Path) -> io::Result<()> {
        step_io!("object.sync", identity, self.sync())?;
        step_io!("object.rename", identity, rename_new(&self.path, target))?;
        self.is_linked = false;
        if planted!("object_folder_not_synced") {
            return Ok(());
        }
        step_io!("object.folder", identity, super::sync_parent(target)).inspect_err(|_| {
            // The object counts as not written. Nobody has its name, so this only saves space until the sweep.
            let _ = std::fs::remove_file(target);
        })
    }

    /// Removes it, and says whether that worked.
    pub(super) fn remove(mut self) -> io::Result<()> {
        self.is_linked = false;
        if planted!("temporary_files_kept") {
            return Ok(());
        }
        step_io!("object.abort", identity, std::fs::remove_file(&self.path))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.is_linked
            && !planted!("temporary_files_kept")
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays until the next start");
        }
    }
}

/// Renames without ever replacing a file. Where the file system cannot do that in one step (NFS), it links.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;

    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(from, to),
        done => Ok(done?),
    }
}

/// The same in two steps. If the second fails, the file has two names, and the sweep removes the temporary one.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    let _ = std::fs::remove_file(from);
    Ok(())
}

fn lock_path(folder: &Path, owner: &str) -> PathBuf {
    folder.join(format!("{owner}.lock"))
}

/// Invents an owner and takes its lock.
fn take_lock(folder: &Path) -> io::Result<(String, File)> {
    loop {
        let owner = format!("{:032x}", rand::random::<u128>());
        let path = lock_path(folder, &owner);
        let lock = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // Between the two calls another node may have taken it for a dead owner's: then this one tries another name.
        match lock.try_lock() {
            Ok(()) if is_same_file(&lock, &path)? => return Ok((owner, lock)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn is_same_file(open: &File, path: &Path) -> io::Result<bool> {
    let open = open.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the files of owners that are gone. Whether one is gone is asked after its file was seen, so that an owner
/// which appears meanwhile, and which takes its lock before it makes a file, is not mistaken for a dead one.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)?.filter(|_| !planted!("temporary_files_kept")) {
        let name = entry?.file_name();
        let Some(owner) = name.to_str().and_then(owner_of) else { continue };
        let Some(held) = lock_of_dead(&lock_path(folder, owner))? else { continue };
        // A lock may go before its owner's files: one without a lock counts as free too.
        step_io!("store.sweep", identity, remove_if_there(&folder.join(&name)))?;
        drop(held);
    }
    Ok(())
}

/// The owner of a file in the folder, or of a lock.
fn owner_of(name: &str) -> Option<&str> {
    name.strip_suffix(".lock").or_else(|| name.split_once('-').map(|(owner, _)| owner))
}

/// `None` if the owner lives, else its lock if there still is one, taken.
fn lock_of_dead(path: &Path) -> io::Result<Option<Option<File>>> {
    let lock = match OpenOptions::new().write(true).open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(Some(lock))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rename = fn(&Path, &Path) -> io::Result<()>;

    #[test]
    fn neither_way_to_rename_replaces_a_file() {
        for rename in [rename_new as Rename, link_new] {
            let folder = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
            std::fs::write(&from, "first").unwrap();
            rename(&from, &to).unwrap();
            assert!(!from.exists(), "it has two names");
            std::fs::write(&from, "second").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&to).unwrap(), b"first");
            assert_eq!(std::fs::read(&from).unwrap(), b"second");
        }
    }

    #[test]
    fn a_lock_whose_file_was_swept_is_not_taken_for_held() {
        let folder = tempfile::tempdir().unwrap();
        let (owner, lock) = take_lock(folder.path()).unwrap();
        let path = lock_path(folder.path(), &owner);
        assert!(is_same_file(&lock, &path).unwrap());
        assert!(lock_of_dead(&path).unwrap().is_none(), "the owner lives");
        std::fs::remove_file(&path).unwrap();
        assert!(!is_same_file(&lock, &path).unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(!is_same_file(&lock, &path).unwrap(), "another file of that name");
        drop(lock);
        assert!(lock_of_dead(&path).unwrap().is_some());
    }
}

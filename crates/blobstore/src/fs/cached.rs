//! Small reads that memory answers: done at once, without a thread that may block.
//!
//! A small object that is asked for often is in the page cache, and the way to a blocking thread and back costs more
//! than reading it. Linux can be told to answer from memory or not at all: `RESOLVE_CACHED` for the path (openat2(2)),
//! `RWF_NOWAIT` for the bytes (preadv2(2)). Whatever does not succeed here, errors included, is left to the ordinary
//! way.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Longest read, in bytes: copying it must not hold up the other tasks of a thread.
const BYTES_MAX: u64 = 64 << 10;

/// File systems of this machine's own disks and memory, by the numbers of statfs(2): ext2 to ext4, XFS, Btrfs, F2FS,
/// tmpfs. On others, opening a file may ask a server, whatever the flags say.
const LOCAL: [u32; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// Whether it is worth trying.
pub(super) struct FromMemory {
    works: AtomicBool,
}

impl FromMemory {
    /// For a folder.
    pub(super) fn of(folder: &Path) -> Self {
        let local = rustix::fs::statfs(folder).is_ok_and(|fs| LOCAL.contains(&(fs.f_type as u32)));
        Self { works: AtomicBool::new(local) }
    }

    /// Bytes of a file and the file's length, if memory has all of it. It must be a short range, and not an empty one.
    pub(super) fn read(&self, path: &Path, range: &Range<u64>) -> Option<(Vec<u8>, u64)> {
        let short = !range.is_empty() && range.end - range.start <= BYTES_MAX;
        if !short || !self.works.load(Ordering::Relaxed) {
            return None;
        }
        match read(path, range) {
            Ok(found) => found,
            // Not known to this kernel, or to this file system.
            Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                self.works.store(false, Ordering::Relaxed);
                None
            }
            Err(_) => None,
        }
    }
}

fn read(path: &Path, range: &Range<u64>) -> Result<Option<(Vec<u8>, u64)>, Errno> {
    // Nor may reading write: the time of access stays as it is.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOATIME;
    let file = File::from(openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)?);
    let length = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let count = preadv2(&file, &mut [IoSliceMut::new(&mut bytes)], range.start, ReadWriteFlags::NOWAIT)?;
    Ok((count == bytes.len()).then_some((bytes, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_just_written_comes_from_memory() {
        let (folder, path) = file(b"0123456789");
        let memory = FromMemory::of(folder.path());
        assert!(memory.works.load(Ordering::Relaxed), "tests run on a local file system");
        assert_eq!(memory.read(&path, &(2..5)), Some((b"234".to_vec(), 10)));
        assert_eq!(memory.read(&path, &(0..10)), Some((b"0123456789".to_vec(), 10)));
    }

    #[test]
    fn everything_else_is_left_to_the_ordinary_way() {
        let (folder, path) = file(b"0123456789");
        let memory = FromMemory::of(folder.path());
        assert_eq!(memory.read(&path, &(5..11)), None, "it is cut off");
        assert_eq!(memory.read(&path, &(5..5)), None);
        assert_eq!(memory.read(&path, &(0..BYTES_MAX + 1)), None);
        assert_eq!(memory.read(&folder.path().join("missing"), &(0..1)), None);
        assert!(memory.works.load(Ordering::Relaxed), "none of these says that it does not work");
        memory.works.store(false, Ordering::Relaxed);
        assert_eq!(memory.read(&path, &(2..5)), None);
    }
}

//! What has arrived of a blob: in memory for a blob of one block, otherwise in a sparse file without a name.

use std::convert::identity;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_fault::{planted, step_io};
use atoll_proto::replication::BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

/// A bound on bytes that several hold parts of.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicU64,
}

impl Budget {
    /// So many bytes, all free.
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { free: AtomicU64::new(bytes) })
    }

    /// Takes a part until it is dropped; `None` if so much is not free.
    fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let take = |free: u64| match free.checked_sub(bytes) {
            None if planted!("spool_unbounded") => Some(free),
            rest => rest,
        };
        self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Reservation { budget: self.clone(), bytes })
    }
}

/// A part of a budget.
#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes of one blob, by block.
pub(crate) struct Spool {
    place: Place,
    /// Given back when the last reader has left.
    _reserved: Reservation,
}

enum Place {
    /// Of a blob of at most one block.
    Memory(Mutex<Bytes>),
    /// Of any other; unlinked already, so that nothing is left whatever happens.
    Disk(Arc<OnDisk>),
}

/// Blocks in a file, and what they were when they were written: nobody syncs the file, so that nobody hears of bytes
/// that its disk has lost.
struct OnDisk {
    file: File,
    size: u64,
    /// XXH3 of the blocks that were written, by number.
    checksums: Mutex<Vec<Option<u64>>>,
}

impl OnDisk {
    fn new(file: File, size: u64) -> Self {
        let blocks = usize::try_from(size.div_ceil(BLOCK_BYTES)).unwrap_or(usize::MAX);
        Self { file, size, checksums: Mutex::new(vec![None; blocks]) }
    }

    fn write(&self, block: usize, bytes: &Bytes) -> io::Result<()> {
        self.file.write_all_at(bytes, block as u64 * BLOCK_BYTES)?;
        let mut checksums = self.checksums.lock();
        *checksums.get_mut(block).ok_or(io::ErrorKind::InvalidInput)? = Some(xxh3_64(bytes));
        Ok(())
    }

    /// Reads a block whole, and says so if it is not what was written.
    fn read(&self, block: u64) -> io::Result<Bytes> {
        let expected = usize::try_from(block).ok().and_then(|block| *self.checksums.lock().get(block)?);
        let expected = expected.ok_or(io::ErrorKind::UnexpectedEof)?;
        let offset = block * BLOCK_BYTES;
        let mut bytes = BytesMut::zeroed(BLOCK_BYTES.min(self.size - offset) as usize);
        self.file.read_exact_at(&mut bytes, offset)?;
        if xxh3_64(&bytes) != expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block is not what was written to the disk"));
        }
        Ok(bytes.freeze())
    }
}

impl Spool {
    /// Room for a blob; `None` when the budgets do not allow it now.
    pub(crate) async fn new(
        size: u64,
        memory: &Arc<Budget>,
        disk: &Arc<Budget>,
        folder: &Path,
    ) -> io::Result<Option<Self>> {
        if size <= BLOCK_BYTES
            && let Some(reserved) = memory.reserve(size)
        {
            return Ok(Some(Self { place: Place::Memory(Mutex::default()), _reserved: reserved }));
        }
        let Some(reserved) = disk.reserve(size) else { return Ok(None) };
        let folder = folder.to_owned();
        let file = step_io!("spool.create", identity, blocking(move || nameless(&folder)).await)?;
        Ok(Some(Self { place: Place::Disk(Arc::new(OnDisk::new(file, size))), _reserved: reserved }))
    }

    /// Keeps a block.
    pub(crate) async fn write(&self, block: usize, bytes: Bytes) -> io::Result<()> {
        match &self.place {
            Place::Memory(held) => {
                *held.lock() = bytes;
                Ok(())
            }
            Place::Disk(disk) => {
                let disk = disk.clone();
                let write = move || disk.write(block, &bytes);
                step_io!("spool.write", identity, blocking(write).await)
            }
        }
    }

    /// A run of bytes that have arrived, of one block.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let (block, start) = (offset / BLOCK_BYTES, (offset % BLOCK_BYTES) as usize);
        let bytes = match &self.place {
            Place::Memory(held) => held.lock().clone(),
            Place::Disk(disk) => {
                let disk = disk.clone();
                blocking(move || disk.read(block)).await?
            }
        };
        let end = start.saturating_add(length);
        if end > bytes.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes.slice(start..end)) }
    }
}

/// A new file that has no name any more.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("{:032x}", rand::random::<u128>()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Makes the folder, and removes what a crash between making a file and unlinking it left.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_ours =
            entry.file_name().to_str().is_some_and(|n| n.len() == 32 && n.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_ours && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocks_come_back_and_budgets_are_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, disk) = (Budget::new(BLOCK_BYTES), Budget::new(10 * BLOCK_BYTES));
        let small = Spool::new(100, &memory, &disk, folder.path()).await.unwrap().unwrap();
        assert!(matches!(small.place, Place::Memory(..)));
        small.write(0, Bytes::from_static(&[7; 100])).await.unwrap();
        assert_eq!(small.read(90, 10).await.unwrap(), [7; 10][..]);
        assert!(small.read(95, 10).await.is_err(), "beyond its end");

        let large = Spool::new(9 * BLOCK_BYTES, &memory, &disk, folder.path()).await.unwrap().unwrap();
        large.write(8, Bytes::from(vec![1; BLOCK_BYTES as usize])).await.unwrap();
        assert_eq!(large.read(8 * BLOCK_BYTES + 5, 3).await.unwrap(), [1; 3][..]);
        assert!(large.read(5, 3).await.is_err(), "it was never written");
        let Place::Disk(on_disk) = &large.place else { panic!("it has more than a block") };
        on_disk.file.write_all_at(&[2], 8 * BLOCK_BYTES + 99).unwrap();
        let read = large.read(8 * BLOCK_BYTES + 5, 3).await;
        assert_eq!(read.map_err(|e| e.kind()), Err(io::ErrorKind::InvalidData), "the disk has changed it");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no name is left");

        assert!(Spool::new(2 * BLOCK_BYTES, &memory, &disk, folder.path()).await.unwrap().is_none(), "over the bound");
        drop(large);
        assert!(Spool::new(2 * BLOCK_BYTES, &memory, &disk, folder.path()).await.unwrap().is_some());
    }
}

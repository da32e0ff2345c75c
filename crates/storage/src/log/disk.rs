//! The log in its database: keys, and the batches that change it.

use std::path::{Path, PathBuf};

use atoll_fault::{failpoint_io, planted, step_io};
use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, DBRawIterator, Range, ReadOptions, WriteBatch, WriteOptions};

use super::LogEntry;
use super::queue::{View, Write};
use crate::Resources;
use crate::error::{Result, StorageError};
use crate::tuning::{self, LOG_ENTRIES, LOG_META};

// Landed: these never change.
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// The log's database.
pub(super) struct Disk {
    db: DB,
    path: PathBuf,
    /// Makes the next write fail as a full or broken disk would.
    #[cfg(test)]
    pub(super) broken: std::sync::atomic::AtomicBool,
}

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

impl Disk {
    pub(super) fn open(path: &Path, resources: &Resources) -> Result<Self> {
        Ok(Self {
            db: tuning::open_log(path, resources)?,
            path: path.to_owned(),
            #[cfg(test)]
            broken: Default::default(),
        })
    }

    /// Reads what is there, and checks that the entries follow what was purged.
    pub(super) fn load(&self) -> Result<View> {
        let purged = self.meta(PURGED)?.map(|bytes| self.decode_purged(&bytes)).transpose()?;
        let (first, last) = (self.edge(true)?, self.edge(false)?);
        let after_purged = purged.as_ref().map(|(index, _)| self.after(*index)).transpose()?;
        let first = first.or(after_purged).unwrap_or(0);
        if after_purged.is_some_and(|after| after != first) {
            let what =
                format!("the log starts at {first}, though it was purged up to {:?}", after_purged.map(|i| i - 1));
            return Err(StorageError::corrupt(&self.path, what));
        }
        Ok(View {
            first,
            next: last.map(|index| self.after(index)).transpose()?.or(after_purged),
            purged,
            vote: self.meta(VOTE)?,
            committed: self.meta(COMMITTED)?,
            tail: std::collections::VecDeque::new(),
        })
    }

    /// Writes all of it in one batch, synced if any of it must be.
    pub(super) fn write<'a>(&self, writes: impl Iterator<Item = &'a Write>) -> Result<()> {
        #[cfg(test)]
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StorageError::io("sync", &self.path)(std::io::Error::other("broken by the test")));
        }
        let (mut batch, mut sync, mut purged) = (WriteBatch::default(), false, None);
        let mut kinds = Kinds::default();
        for write in writes {
            self.add(&mut batch, write)?;
            sync |= write.must_sync();
            kinds.note(write);
            if let Write::Purge(index, _) = write {
                purged = Some(*index);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let failed = |error| StorageError::io("sync", &self.path)(error);
        let mut options = WriteOptions::default();
        options.set_sync(sync && !planted!("log_not_synced"));
        kinds.before().map_err(failed)?;
        self.db.write_opt(batch, &options).map_err(StorageError::database("write to", &self.path))?;
        kinds.after().map_err(failed)?;
        match purged {
            Some(index) => step_io!("log.purge_files", failed, self.purge_files(index)),
            None => Ok(()),
        }
    }

    /// Gives the space of whole files back at once; the range tombstone already hides what they hold.
    fn purge_files(&self, index: u64) -> Result<()> {
        let range = self.db.delete_file_in_range_cf(self.family(LOG_ENTRIES)?, key(0), key(index));
        range.map_err(StorageError::database("purge", &self.path))
    }

    fn add(&self, batch: &mut WriteBatch, write: &Write) -> Result<()> {
        let (entries, meta) = (self.family(LOG_ENTRIES)?, self.family(LOG_META)?);
        match write {
            Write::Append(list) => list.iter().for_each(|e| batch.put_cf(entries, key(e.index), &e.data)),
            Write::Truncate(index) => batch.delete_range_cf(entries, key(*index), key(u64::MAX)),
            Write::Purge(index, id) => {
                batch.delete_range_cf(entries, key(0), key(index + 1));
                batch.put_cf(meta, PURGED, [&key(*index)[..], id].concat());
            }
            // Without its first one, a node is refused when it starts again.
            Write::Vote(_) if planted!("vote_not_written") && self.meta(VOTE)?.is_some() => {}
            Write::Vote(vote) => batch.put_cf(meta, VOTE, vote),
            Write::Committed(committed) => batch.put_cf(meta, COMMITTED, committed),
            Write::Barrier => {}
        }
        Ok(())
    }

    /// A cursor over `from <= index < to` as the database is at this moment.
    pub(super) fn cursor(&self, from: u64, to: u64) -> Result<Cursor<'_>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(key(from));
        options.set_iterate_upper_bound(key(to));
        let raw = self.db.raw_iterator_cf_opt(self.family(LOG_ENTRIES)?, options);
        // Not yet positioned: seeking reads blocks, which is not for the caller's lock.
        raw.status().map_err(StorageError::database("read", &self.path))?;
        Ok(Cursor { raw, path: &self.path, started: false })
    }

    /// Estimate of the bytes that some entries take, on the disk and in write buffers.
    pub(super) fn bytes(&self, from: u64, to: u64) -> Result<u64> {
        let entries = self.family(LOG_ENTRIES)?;
        let (from, to) = (key(from), key(to));
        let on_disk: u64 = self.db.get_approximate_sizes_cf(entries, &[Range::new(&from, &to)]).iter().sum();
        let buffered = self.db.property_int_value_cf(entries, rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES);
        Ok(on_disk + buffered.ok().flatten().unwrap_or(0))
    }

    fn edge(&self, first: bool) -> Result<Option<u64>> {
        let mut raw: DBRawIterator<'_> = self.db.raw_iterator_cf(self.family(LOG_ENTRIES)?);
        if first {
            raw.seek_to_first()
        } else {
            raw.seek_to_last()
        };
        raw.status().map_err(StorageError::database("read", &self.path))?;
        raw.key().map(|bytes| self.decode_key(bytes)).transpose()
    }

    fn meta(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(self.family(LOG_META)?, name).map_err(StorageError::database("read", &self.path))
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily> {
        let missing = || StorageError::corrupt(&self.path, format!("family {name} is missing"));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    fn after(&self, index: u64) -> Result<u64> {
        let none = || StorageError::corrupt(&self.path, format!("it has the index {index}, which none follows"));
        index.checked_add(1).ok_or_else(none)
    }

    fn decode_key(&self, bytes: &[u8]) -> Result<u64> {
        decode_key(&self.path, bytes)
    }

    fn decode_purged(&self, bytes: &[u8]) -> Result<(u64, Vec<u8>)> {
        let (index, id) =
            bytes.split_at_checked(8).ok_or_else(|| StorageError::corrupt(&self.path, "the purged id is cut off"))?;
        Ok((self.decode_key(index)?, id.to_vec()))
    }
}

/// What kinds of writes share a batch, for the failpoints before and after it.
#[derive(Clone, Copy, Default)]
struct Kinds {
    append: bool,
    truncate: bool,
    purge: bool,
    vote: bool,
    committed: bool,
}

impl Kinds {
    fn note(&mut self, write: &Write) {
        match write {
            Write::Append(_) => self.append = true,
            Write::Truncate(_) => self.truncate = true,
            Write::Purge(..) => self.purge = true,
            Write::Vote(_) => self.vote = true,
            Write::Committed(_) => self.committed = true,
            Write::Barrier => {}
        }
    }

    fn before(self) -> std::io::Result<()> {
        self.append.then(|| failpoint_io!("log.append.before")).transpose()?;
        self.truncate.then(|| failpoint_io!("log.truncate.before")).transpose()?;
        self.purge.then(|| failpoint_io!("log.purge.before")).transpose()?;
        self.vote.then(|| failpoint_io!("log.vote.before")).transpose()?;
        self.committed.then(|| failpoint_io!("log.committed.before")).transpose()?;
        Ok(())
    }

    fn after(self) -> std::io::Result<()> {
        self.append.then(|| failpoint_io!("log.append.after")).transpose()?;
        self.truncate.then(|| failpoint_io!("log.truncate.after")).transpose()?;
        self.purge.then(|| failpoint_io!("log.purge.after")).transpose()?;
        self.vote.then(|| failpoint_io!("log.vote.after")).transpose()?;
        self.committed.then(|| failpoint_io!("log.committed.after")).transpose()?;
        Ok(())
    }
}

fn decode_key(path: &Path, bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| StorageError::corrupt(path, "an entry's key has not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Reads entries in order.
pub(super) struct Cursor<'a> {
    raw: DBRawIterator<'a>,
    path: &'a Path,
    started: bool,
}

impl Cursor<'_> {
    /// The next entry.
    pub(super) fn next(&mut self) -> Result<Option<LogEntry>> {
        if self.started {
            self.raw.next()
        } else {
            self.raw.seek_to_first()
        };
        self.started = true;
        self.raw.status().map_err(StorageError::database("read", self.path))?;
        let Some((key, value)) = self.raw.item() else { return Ok(None) };
        Ok(Some(LogEntry { index: decode_key(self.path, key)?, data: Bytes::copy_from_slice(value) }))
    }
}

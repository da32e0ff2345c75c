//! Reading from one consistent view.

use atoll_metadata::{Family, KvError, KvRead, hash_of_pair};
use rocksdb::{DBRawIterator, ReadOptions, Snapshot};

use super::db::Db;
use crate::error::{Result, StorageError};

/// Keys and values, in order of the keys.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One consistent view of the state.
pub struct StateView<'a> {
    db: &'a Db,
    snapshot: Snapshot<'a>,
}

impl<'a> StateView<'a> {
    pub(super) fn new(db: &'a Db) -> Self {
        Self { db, snapshot: db.db.snapshot() }
    }

    /// The revision of this view. It is read when it is asked for: a pull does not need it.
    pub fn revision(&self) -> Result<u64> {
        self.db.revision_of(&self.snapshot)
    }

    /// The hash of every pair, computed from what is stored.
    pub(super) fn recompute_hash(&self) -> Result<u128> {
        let mut hash = 0_u128;
        for family in Family::ALL {
            let mut options = ReadOptions::default();
            // A scan of everything must not drive out what requests need.
            options.fill_cache(false);
            options.set_readahead_size(1 << 20);
            let mut pairs = self.snapshot.raw_iterator_cf_opt(self.db.family(family)?, options);
            pairs.seek_to_first();
            while let Some((key, value)) = pairs.item() {
                hash = hash.wrapping_add(hash_of_pair(family, key, value));
                pairs.next();
            }
            pairs.status().map_err(StorageError::database("read", self.db.path()))?;
        }
        Ok(hash)
    }
}

impl KvRead for StateView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, KvError> {
        let handle = self.db.family(family).map_err(kv_error)?;
        self.snapshot.get_cf(handle, key).map_err(|e| kv_error(StorageError::database("read", self.db.path())(e)))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> std::result::Result<Pairs, KvError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let handle = self.db.family(family).map_err(kv_error)?;
        Cursor { db: self.db, raw: self.snapshot.raw_iterator_cf_opt(handle, between(from, to)) }.take(limit)
    }
}

/// RocksDB as it is, without a view.
impl Db {
    /// A row.
    pub(super) fn get(&self, family: Family, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, KvError> {
        let handle = self.family(family).map_err(kv_error)?;
        self.db.get_cf(handle, key).map_err(|e| kv_error(StorageError::database("read", self.path())(e)))
    }

    /// Rows from a key, and before another one that is behind it, as they are when this returns.
    pub(super) fn cursor(&self, family: Family, from: &[u8], to: &[u8]) -> std::result::Result<Cursor<'_>, KvError> {
        let handle = self.family(family).map_err(kv_error)?;
        Ok(Cursor { db: self, raw: self.db.raw_iterator_cf_opt(handle, between(from, to)) })
    }
}

fn between(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

/// Rows in order, all of one moment.
pub(super) struct Cursor<'a> {
    db: &'a Db,
    raw: DBRawIterator<'a>,
}

impl Cursor<'_> {
    /// The first ones.
    pub(super) fn take(mut self, limit: usize) -> std::result::Result<Pairs, KvError> {
        let mut pairs = Vec::new();
        self.raw.seek_to_first();
        while let Some((key, value)) = self.raw.item() {
            pairs.push((key.to_vec(), value.to_vec()));
            if pairs.len() >= limit {
                break;
            }
            self.raw.next();
        }
        self.raw.status().map_err(|e| kv_error(StorageError::database("read", self.db.path())(e)))?;
        Ok(pairs)
    }
}

fn kv_error(error: StorageError) -> KvError {
    KvError(error.to_string())
}

//! Reading from one consistent view.

use atoll_metadata::{Family, KvError, KvRead, hash_of_pair};
use rocksdb::{ReadOptions, Snapshot};

use super::db::Db;
use crate::error::{Result, StorageError};

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

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> std::result::Result<Vec<(Vec<u8>, Vec<u8>)>, KvError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let handle = self.db.family(family).map_err(kv_error)?;
        let mut cursor = self.snapshot.raw_iterator_cf_opt(handle, options);
        let mut pairs = Vec::new();
        cursor.seek_to_first();
        while let Some((key, value)) = cursor.item() {
            pairs.push((key.to_vec(), value.to_vec()));
            if pairs.len() >= limit {
                break;
            }
            cursor.next();
        }
        cursor.status().map_err(|e| kv_error(StorageError::database("read", self.db.path())(e)))?;
        Ok(pairs)
    }
}

fn kv_error(error: StorageError) -> KvError {
    KvError(error.to_string())
}

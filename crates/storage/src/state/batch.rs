//! Entries that are applied together.

use std::collections::BTreeMap;
use std::ops::Bound;

use atoll_fault::planted;
use atoll_metadata::{Family, Kv, KvError, KvRead, hash_of_pair};
use rocksdb::WriteBatch;

use super::db::{Db, Position};
use super::view::StateView;
use crate::error::{Result, StorageError};

/// What a batch leads to.
pub(super) struct Finished {
    pub(super) batch: WriteBatch,
    /// What it changes, Raft's own keys aside.
    pub(super) keys: Vec<(Family, Vec<u8>)>,
    /// How far the state has come then.
    pub(super) position: Position,
    /// Revision and state hash after each entry.
    pub(super) hashes: Vec<(u64, u128)>,
}

/// Entries that are being applied, and become visible together with how far the state has come.
pub struct StateBatch<'a> {
    kv: BatchKv<'a>,
    position: Position,
    /// Revision and state hash after each entry.
    hashes: Vec<(u64, u128)>,
}

impl<'a> StateBatch<'a> {
    pub(super) fn new(db: &'a Db, position: Position) -> Result<Self> {
        let kv = BatchKv { base: StateView::new(db), changes: BTreeMap::new(), bytes: 0, hash_delta: 0, error: None };
        Ok(Self { kv, position, hashes: Vec::new() })
    }

    /// What the state machine applies to; sees what the batch's earlier entries wrote.
    pub fn kv(&mut self) -> &mut BatchKv<'a> {
        &mut self.kv
    }

    /// Ends one entry, blank ones and memberships included. Revisions only grow.
    pub fn entry_applied(&mut self, revision: u64, log_id: Vec<u8>) -> Result<()> {
        self.kv.check()?;
        let applied = &mut self.position.applied;
        if applied.log_id.is_some() && revision <= applied.revision {
            let what = format!("revision {revision} is applied after {}", applied.revision);
            return Err(StorageError::OutOfOrder(what));
        }
        applied.revision = revision;
        applied.log_id = Some(log_id);
        self.position.hash = self.position.hash.wrapping_add(std::mem::take(&mut self.kv.hash_delta));
        self.hashes.push((revision, self.position.hash));
        Ok(())
    }

    /// Sets the membership.
    pub fn set_membership(&mut self, membership: Vec<u8>) {
        self.position.applied.membership = Some(membership);
    }

    /// About how many bytes the batch holds, so that the caller can end it in time.
    pub fn bytes(&self) -> usize {
        self.kv.bytes
    }

    pub(super) fn finish(self, db: &Db) -> Result<Finished> {
        self.kv.check()?;
        if self.kv.hash_delta != 0 {
            return Err(StorageError::OutOfOrder("an entry changed the state and was not ended".to_owned()));
        }
        let (mut batch, mut keys) = (WriteBatch::default(), Vec::with_capacity(self.kv.changes.len()));
        for ((family, key), value) in self.kv.changes {
            let handle = db.family(family)?;
            match value {
                Some(value) => batch.put_cf(handle, &key, value),
                None => batch.delete_cf(handle, &key),
            }
            keys.push((family, key));
        }
        db.put_position(&mut batch, &self.position)?;
        Ok(Finished { batch, keys, position: self.position, hashes: self.hashes })
    }
}

/// The state with a batch's changes on top; keeps the change of the state hash.
pub struct BatchKv<'a> {
    base: StateView<'a>,
    changes: BTreeMap<(Family, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
    hash_delta: u128,
    /// `put` and `delete` cannot report that the old value was unreadable; the batch then never ends well.
    error: Option<KvError>,
}

impl BatchKv<'_> {
    fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn set(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        match self.get(family, &key) {
            Ok(old) => {
                let hash = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |v| hash_of_pair(family, &key, v));
                if !(planted!("state_hash_forgets_deletes") && value.is_none()) {
                    self.hash_delta = self.hash_delta.wrapping_sub(hash(&old)).wrapping_add(hash(&value));
                }
            }
            Err(error) => self.error = Some(error),
        }
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.insert((family, key), value);
    }

    /// Pairs of the base within a range, with the changes in that range on top.
    fn merge(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        base: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().collect();
        for (key, value) in self.changes(family, from, to) {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        merged
    }

    fn changes(&self, family: Family, from: &[u8], to: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        let range = (Bound::Included((family, from.to_vec())), Bound::Excluded((family, to.to_vec())));
        self.changes.range(range).map(|((_, key), value)| (key, value))
    }
}

impl KvRead for BatchKv<'_> {
    fn get(&self, family: Family, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, KvError> {
        match self.changes.get(&(family, key.to_vec())) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> std::result::Result<Vec<(Vec<u8>, Vec<u8>)>, KvError> {
        let (mut pairs, mut from) = (Vec::new(), from.to_vec());
        while pairs.len() < limit && from.as_slice() < to {
            let wanted = limit - pairs.len();
            let page = self.base.scan(family, &from, to, wanted)?;
            // What is beyond a full page is not known yet; it matters if changes took away from the page.
            let known_to = match page.last() {
                Some((last, _)) if page.len() == wanted => [last.as_slice(), &[0]].concat(),
                _ => to.to_vec(),
            };
            pairs.extend(self.merge(family, &from, &known_to, page));
            from = known_to;
        }
        pairs.truncate(limit);
        Ok(pairs)
    }
}

impl Kv for BatchKv<'_> {
    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.set(family, key, Some(value));
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.set(family, key, None);
    }
}

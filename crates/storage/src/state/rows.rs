//! Rows that are read often, in memory. A pull asks for the same few again and again; each of them costs a search in
//! RocksDB, and the view that they come from a turn of the mutex that all of its views and writes share.
//!
//! A [`QuickView`] is one consistent view all the same, without holding anything. It remembers the version at which it
//! began. A kept row counts only if the version is still that one after the row was found. What is not kept is read from
//! RocksDB as it is, and counts only if no change has begun after that version; who asks for more than a few such rows
//! gets a view of RocksDB that was made while the version was provably that one. Where neither can be had since the
//! state has moved on, the view is torn, and what was read through it is read again, all of it, from a view of
//! RocksDB. Where that one has a change that does not count here yet, it waits until it does, or a reader would see what
//! the next one does not see yet; for a write that stands still nobody waits. The writer waits for no more than a row
//! that is being kept.

use std::cell::{Cell, OnceCell};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_metadata::{Family, KvError, KvRead};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::db::Db;
use super::view::StateView;

/// Rows that are not kept and are read without a view of RocksDB: a pull needs no more. A view costs as much as such a
/// row, but what was read through it stays right when the state moves on.
pub(super) const DIRECT_MAX: u32 = 4;
/// Memory of an entry beside its key and its value, in bytes, about.
const ENTRY_BYTES: u64 = 128;

/// Rows as they are at the newest version, those that were read lately.
pub(super) struct Rows {
    /// Grows with each change, while `changing` is held for writing and when no row from before is kept any more.
    version: AtomicU64,
    /// Grows when a change begins, before it can be seen in RocksDB: the same as `version` while none is on its way.
    begun: AtomicU64,
    /// Held for writing from before a change until its version counts; for reading while a row is kept.
    changing: RwLock<()>,
    kept: Cache<RowKey, Option<Arc<[u8]>>, ByBytes>,
}

/// A change on its way. Dropped without being told what changed, it leaves no row kept.
pub(super) struct Change<'a> {
    rows: &'a Rows,
    told: bool,
    _changing: RwLockWriteGuard<'a, ()>,
}

impl Rows {
    /// No rows yet, and later at most so many bytes of them.
    pub(super) fn new(bytes_max: u64) -> Self {
        let rows = (bytes_max / 512).clamp(64, 1 << 20) as usize;
        Self {
            version: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            changing: RwLock::new(()),
            kept: Cache::with_weighter(rows, bytes_max, ByBytes),
        }
    }

    /// Begins a change: before it can be seen in RocksDB.
    pub(super) fn change(&self) -> Change<'_> {
        let changing = self.changing.write();
        self.begun.fetch_add(1, Ordering::AcqRel);
        Change { rows: self, told: false, _changing: changing }
    }

    /// Whether RocksDB, up to now, has had no change that came after a version.
    fn none_begun_since(&self, version: u64) -> bool {
        self.begun.load(Ordering::Acquire) == version
    }

    /// Lets no change begin, unless one is on its way.
    pub(super) fn settled_now(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.changing.try_read()
    }

    /// Waits until no change is on its way, and lets none begin: what RocksDB has then is what the version says.
    pub(super) fn settled(&self) -> RwLockReadGuard<'_, ()> {
        self.changing.read()
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Runs `act` unless a change is on its way or the version is another one by now.
    fn at_version<R>(&self, version: u64, act: impl FnOnce() -> R) -> Option<R> {
        let _unchanged = self.settled_now()?;
        (self.version() == version).then(act)
    }
}

impl Change<'_> {
    /// It can be seen now, and these keys have other values than before.
    pub(super) fn made<'k>(mut self, keys: impl IntoIterator<Item = (Family, &'k [u8])>) {
        for (family, key) in keys {
            self.rows.kept.remove(&RowRef { family, key });
        }
        self.told = true;
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.rows.kept.clear();
        }
        self.rows.version.fetch_add(1, Ordering::Release);
    }
}

/// One consistent view: of kept rows, and of RocksDB for what is not kept.
pub(super) struct QuickView<'a> {
    rows: &'a Rows,
    db: &'a Db,
    version: u64,
    view: OnceCell<StateView<'a>>,
    /// Rows that were read without one.
    direct: Cell<u32>,
    torn: Cell<bool>,
}

impl<'a> QuickView<'a> {
    /// A view of the newest version, unless that is no more the newest: `db` must be what `current` gives *after* the
    /// version was looked at.
    pub(super) fn with<R>(
        rows: &Rows,
        current: impl FnOnce() -> Arc<Db>,
        read: impl FnOnce(&QuickView<'_>) -> R,
    ) -> Option<R> {
        let version = rows.version();
        let db = current();
        let view =
            QuickView { rows, db: &db, version, view: OnceCell::new(), direct: Cell::new(0), torn: Cell::new(false) };
        let result = read(&view);
        (!view.torn.get()).then_some(result)
    }

    /// The view of RocksDB at this version.
    fn view(&self) -> Result<&StateView<'a>, KvError> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        match self.rows.at_version(self.version, || StateView::new(self.db)) {
            Some(view) => Ok(self.view.get_or_init(|| view)),
            None => Err(self.tear()),
        }
    }

    /// What RocksDB has for a row, if it is of this version for sure.
    fn directly(&self, family: Family, key: &[u8]) -> Result<Option<Option<Vec<u8>>>, KvError> {
        if self.view.get().is_some() || self.direct.get() >= DIRECT_MAX {
            return Ok(None);
        }
        self.direct.set(self.direct.get() + 1);
        let value = self.db.get(family, key)?;
        // After it was read: a change that it may be of had begun before it could be seen.
        Ok(self.rows.none_begun_since(self.version).then_some(value))
    }

    fn tear(&self) -> KvError {
        self.torn.set(true);
        KvError("the state has moved on; it is read again".into())
    }

    /// A kept row, if it is of this version.
    fn kept(&self, family: Family, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let row = self.rows.kept.get(&RowRef { family, key })?;
        // After the row was found: one that is newer than this version cannot have been kept before it counted.
        (self.rows.version() == self.version).then(|| row.map(|value| value.to_vec()))
    }

    fn keep(&self, family: Family, key: &[u8], value: Option<&[u8]>) {
        let insert = || self.rows.kept.insert(RowKey { family, key: key.into() }, value.map(Arc::from));
        // A row that cannot be kept now is kept when it is read the next time.
        let _ = self.rows.at_version(self.version, insert);
    }
}

impl KvRead for QuickView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        if let Some(value) = self.kept(family, key) {
            return Ok(value);
        }
        let value = match self.directly(family, key)? {
            Some(value) => value,
            None => self.view()?.get(family, key)?,
        };
        // Keys of the queue live for seconds, and are read in order.
        if family == Family::State {
            self.keep(family, key, value.as_deref());
        }
        Ok(value)
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, KvError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        if self.view.get().is_none() {
            let cursor = self.db.cursor(family, from, to)?;
            // After it was made: it shows RocksDB as it was then.
            if self.rows.none_begun_since(self.version) {
                return cursor.take(limit);
            }
        }
        self.view()?.scan(family, from, to, limit)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RowKey {
    family: Family,
    key: Box<[u8]>,
}

/// A [`RowKey`] that is looked for.
struct RowRef<'a> {
    family: Family,
    key: &'a [u8],
}

impl Hash for RowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        RowRef { family: self.family, key: &self.key }.hash(state);
    }
}

impl Hash for RowRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.family.hash(state);
        self.key.hash(state);
    }
}

impl Equivalent<RowKey> for RowRef<'_> {
    fn equivalent(&self, other: &RowKey) -> bool {
        self.family == other.family && *self.key == *other.key
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<RowKey, Option<Arc<[u8]>>> for ByBytes {
    fn weight(&self, key: &RowKey, value: &Option<Arc<[u8]>>) -> u64 {
        ENTRY_BYTES + (key.key.len() + value.as_ref().map_or(0, |v| v.len())) as u64
    }
}

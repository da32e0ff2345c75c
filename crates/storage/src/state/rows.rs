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
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::db::Db;
use super::view::StateView;

/// Rows that are not kept and are read without a view of RocksDB: a pull needs no more. A view costs as much as such a
/// row, but what was read through it stays right when the state moves on.
pub(super) const DIRECT_MAX: u32 = 4;
/// Memory of a row with a short value, and of a longer one beside it, in bytes, about.
const ROW_BYTES: u64 = 104;
/// Values that are as long as that need no memory of their own: a tag's, a link's.
const SHORT_MAX: usize = 54;
/// What the counts of a longer value's owners take, in bytes.
const LONG_BYTES: u64 = 16;
/// Of the rows that fit in if each takes 512 bytes, the share of which the names are remembered when they make way: who is
/// asked for again soon stays longer then.
const REMEMBERED: f64 = 0.25;

/// Rows as they are at the newest version, those that were read lately.
pub(super) struct Rows {
    /// Grows with each change, while `changing` is held for writing and when no row from before is kept any more.
    version: AtomicU64,
    /// Grows when a change begins, before it can be seen in RocksDB: the same as `version` while none is on its way.
    begun: AtomicU64,
    /// Held for writing from before a change until its version counts; for reading while a row is kept.
    changing: RwLock<()>,
    names: Names,
    kept: Cache<RowName, Kept, ByBytes>,
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
        let kept = cache(bytes_max);
        let (version, begun) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { version, begun, changing: RwLock::new(()), names: Names::random(), kept }
    }

    /// The names of rows that a change is of. It takes its time: before the change begins.
    pub(super) fn names<'k>(&self, keys: impl IntoIterator<Item = (Family, &'k [u8])>) -> Vec<RowName> {
        keys.into_iter().map(|(family, key)| self.names.of(family, key)).collect()
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
    /// It can be seen now, and these rows have other values than before.
    pub(super) fn made(mut self, names: &[RowName]) {
        for name in names {
            self.rows.kept.remove(name);
        }
        self.told = true;
    }

    /// All rows will be others: forgets them before any of it can be seen, since from then on readers wait.
    pub(super) fn of_all(&mut self) {
        self.rows.kept.clear();
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
    fn kept(&self, name: RowName) -> Option<Option<Vec<u8>>> {
        let row = self.rows.kept.get(&name)?;
        // After the row was found: one that is newer than this version cannot have been kept before it counted.
        (self.rows.version() == self.version).then(|| row.value())
    }

    fn keep(&self, name: RowName, value: Option<&[u8]>) {
        let insert = || self.rows.kept.insert(name, Kept::of(value));
        // A row that cannot be kept now is kept when it is read the next time.
        let _ = self.rows.at_version(self.version, insert);
    }
}

impl KvRead for QuickView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let name = self.rows.names.of(family, key);
        if let Some(value) = self.kept(name) {
            return Ok(value);
        }
        let value = match self.directly(family, key)? {
            Some(value) => value,
            None => self.view()?.get(family, key)?,
        };
        // Keys of the queue live for seconds, and are read in order.
        if family == Family::State {
            self.keep(name, value.as_deref());
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

/// Makes the names of rows. Its key is random and never told, nor is a name, so that nobody can look for two rows of one
/// name: SipHash is made for that (Aumasson and Bernstein, 2012; with fewer rounds here than in the paper). By chance two of a billion rows have one with a probability of
/// less than 1 in 10^20.
struct Names(SipHasher13);

/// A row's name in memory: 16 bytes, where its key would be about 60 in an allocation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowName(u64, u64);

impl Names {
    fn random() -> Self {
        Self(SipHasher13::new_with_key(&rand::random()))
    }

    fn of(&self, family: Family, key: &[u8]) -> RowName {
        let mut hasher = self.0;
        family.hash(&mut hasher);
        hasher.write(key);
        let name = hasher.finish128();
        RowName(name.h1, name.h2)
    }
}

/// What a row holds, or that there is none.
#[derive(Clone, Debug)]
enum Kept {
    None,
    Short(u8, [u8; SHORT_MAX]),
    Long(Arc<[u8]>),
}

impl Kept {
    fn of(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::None };
        let mut short = [0; SHORT_MAX];
        match (short.get_mut(..value.len()), u8::try_from(value.len())) {
            (Some(bytes), Ok(len)) => {
                bytes.copy_from_slice(value);
                Self::Short(len, short)
            }
            _ => Self::Long(value.into()),
        }
    }

    fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::None => None,
            Self::Short(len, bytes) => Some(bytes[..usize::from(*len)].to_vec()),
            Self::Long(bytes) => Some(bytes.to_vec()),
        }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<RowName, Kept> for ByBytes {
    fn weight(&self, _: &RowName, row: &Kept) -> u64 {
        match row {
            Kept::None | Kept::Short(..) => ROW_BYTES,
            Kept::Long(bytes) => ROW_BYTES + allocated(LONG_BYTES + bytes.len() as u64),
        }
    }
}

/// Rows and what is remembered of others, in so many bytes together.
fn cache(bytes_max: u64) -> Cache<RowName, Kept, ByBytes> {
    let rows = (bytes_max / 512).clamp(64, 1 << 20);
    let remembered = (rows as f64 * REMEMBERED) as u64 * ROW_BYTES;
    let bytes = bytes_max.saturating_sub(remembered);
    let mut options = OptionsBuilder::new();
    options.estimated_items_capacity(rows as usize).weight_capacity(bytes).ghost_allocation(REMEMBERED);
    match options.build() {
        Ok(options) => {
            Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
        }
        // It says so where one of them is not set.
        Err(_) => Cache::with_weighter(rows as usize, bytes, ByBytes),
    }
}

/// What jemalloc takes for so many bytes: it has four sizes between one power of two and the next (its manual, "Size
/// classes").
fn allocated(bytes: u64) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_read(value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60))) {
            prop_assert_eq!(Kept::of(value.as_deref()).value(), value);
        }
    }

    #[test]
    fn a_row_is_as_large_as_is_reckoned() {
        // The cache adds two places of a list, a state and an index.
        let row = size_of::<(RowName, Kept)>() as u64;
        assert!(row <= 72 && ROW_BYTES >= row + 8 + 8 + 12, "{row}");
    }

    #[test]
    fn a_longer_value_is_as_large_as_its_allocation() {
        for (bytes, class) in [(71, 80), (128, 128), (129, 160), (4106, 5120), (5120, 5120), (5121, 6144), (8192, 8192)]
        {
            assert_eq!(allocated(bytes), class, "{bytes}");
        }
    }

    #[test]
    fn all_that_is_kept_fits_into_its_bytes() {
        let bytes_max = 1 << 20;
        let rows = Rows::new(bytes_max);
        for number in 0..10_000_u64 {
            let value = vec![7; (number % 3 * 2_000) as usize];
            rows.kept.insert(rows.names.of(Family::State, &number.to_be_bytes()), Kept::of(Some(&value)));
        }
        let held: u64 = rows.kept.iter().map(|(name, row)| ByBytes.weight(&name, &row)).sum();
        let bytes: u64 = rows.kept.iter().map(|(_, row)| row.value().map_or(0, |value| value.len() as u64)).sum();
        assert!(bytes <= held && held <= bytes_max && held >= bytes_max / 2, "{bytes} bytes, reckoned {held}");
    }

    #[test]
    fn families_and_nodes_name_rows_apart() {
        let (one, other) = (Names::random(), Names::random());
        assert_eq!(one.of(Family::State, b"key"), one.of(Family::State, b"key"));
        assert_ne!(one.of(Family::State, b"key"), one.of(Family::Wanted, b"key"));
        assert_ne!(one.of(Family::State, b"key"), one.of(Family::State, b"kez"));
        assert_ne!(one.of(Family::State, b"key"), other.of(Family::State, b"key"));
    }
}

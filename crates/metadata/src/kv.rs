//! The ordered key-value trait that the state machine runs over.

/// Which set of keys. RocksDB keeps each in a column family of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// All keys but the replication queue.
    State,
    /// The replication queue: short-lived keys whose tombstones must not slow the others down.
    Wanted,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::State, Self::Wanted];

    /// One byte for the state hash. Landed: it never changes.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::State => 0,
            Self::Wanted => 1,
        }
    }
}

/// The store below failed, or holds what cannot be decoded. A node that gets this in apply must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata store: {0}")]
pub struct KvError(pub String);

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Reading. Implementations give one consistent view for the life of the value.
pub trait KvRead {
    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// At most `limit` pairs with `from <= key < to`, in ascending order.
    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError>;
}

/// Reading and writing; a reader of the same value sees what was written.
pub trait Kv: KvRead {
    /// Sets a key.
    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>);

    /// Removes a key, if it is there.
    fn delete(&mut self, family: Family, key: Vec<u8>);
}

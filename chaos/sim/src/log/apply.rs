//! The state machine, with whatever bug of it is planted.

use atoll_metadata::{Applied, Entry, Family, Kv, KvError, KvRead, MemoryKv, Pair};
use atoll_types::Revision;

use crate::plant::{Plant, is_planted};

/// First byte of the keys of garbage (`atoll-metadata`, `keys`).
const GARBAGE: u8 = 0x20;
/// First byte of those that say what refers to a digest, and the one that says "as a child", from the end: before the
/// digest of who refers to it.
const REFERRED_BY: u8 = 0x17;
const AS_A_CHILD: u8 = 2;
const AS_FROM_END: usize = 34;

/// Applies an entry, at every node alike.
pub(super) fn apply(kv: &mut MemoryKv, revision: Revision, entry: &Entry) -> Result<Applied, KvError> {
    if is_planted(Plant::GarbageNotWritten) || is_planted(Plant::ChildrenNotKept) {
        atoll_metadata::apply(&mut Forgetful(kv), revision, entry)
    } else {
        atoll_metadata::apply(kv, revision, entry)
    }
}

/// Forgets what becomes garbage, or what refers to children.
struct Forgetful<'a>(&'a mut MemoryKv);

fn is_forgotten(key: &[u8]) -> bool {
    let of_child = || key.len().checked_sub(AS_FROM_END).and_then(|at| key.get(at)) == Some(&AS_A_CHILD);
    match key.first() {
        Some(&GARBAGE) => is_planted(Plant::GarbageNotWritten),
        Some(&REFERRED_BY) => is_planted(Plant::ChildrenNotKept) && of_child(),
        _ => false,
    }
}

impl KvRead for Forgetful<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(family, key)
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        self.0.scan(family, from, to, limit)
    }
}

impl Kv for Forgetful<'_> {
    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        if family != Family::State || !is_forgotten(&key) {
            self.0.put(family, key, value);
        }
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.0.delete(family, key);
    }
}

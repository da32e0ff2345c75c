//! Planted bugs of apply. `metadata` is pure and knows of no switch: a bug of it is planted here, in the key-value trait
//! that it writes through, and in the entry that it is given.

use std::time::{SystemTime, UNIX_EPOCH};

use atoll_fault::planted;
use atoll_metadata::{Applied, Entry, Family, Kv, KvError, KvRead, Pair};
use atoll_types::Revision;

/// First byte of the keys of garbage (`atoll-metadata`, `keys`).
const GARBAGE: u8 = 0x20;
/// First byte of the reverse reference from a manifest to its tags.
const MANIFEST_TAG: u8 = 0x18;

/// Applies an entry with whatever bugs are switched on.
pub(crate) fn apply(kv: &mut dyn Kv, revision: Revision, entry: &Entry) -> Result<Applied, KvError> {
    let mut entry = entry.clone();
    if planted!("apply_reads_the_clock") {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        entry.time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    }
    atoll_metadata::apply(&mut Forgetful(kv), revision, &entry)
}

/// Forgets some of what it is told.
struct Forgetful<'a>(&'a mut dyn Kv);

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
        let forgotten = match family {
            Family::Wanted => planted!("wanted_not_queued"),
            Family::State => planted!("garbage_not_written") && key.first() == Some(&GARBAGE),
        };
        if !forgotten {
            self.0.put(family, key, value);
        }
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) {
        let forgotten = match family {
            Family::Wanted => planted!("wanted_never_removed"),
            Family::State => planted!("reverse_index_kept") && key.first() == Some(&MANIFEST_TAG),
        };
        if !forgotten {
            self.0.delete(family, key);
        }
    }
}

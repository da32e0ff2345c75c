//! The state hash: an additive hash over all pairs, so that equal states have equal hashes whatever way they came.

use std::collections::VecDeque;

use atoll_metadata::Family;
use xxhash_rust::xxh3::Xxh3;

/// What one pair adds to the state hash.
pub(super) fn pair_hash(family: Family, key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&[match family {
        Family::State => 0,
        Family::Wanted => 1,
    }]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&(value.len() as u64).to_le_bytes());
    hasher.update(value);
    hasher.digest128()
}

/// State hashes of the newest revisions, so that nodes can be compared at one revision while writes go on.
#[derive(Default)]
pub(super) struct HashHistory {
    hashes: VecDeque<(u64, u128)>,
}

impl HashHistory {
    pub(super) fn starting_at(revision: u64, hash: u128) -> Self {
        Self { hashes: [(revision, hash)].into() }
    }

    pub(super) fn push(&mut self, revision: u64, hash: u128, keep: usize) {
        self.hashes.push_back((revision, hash));
        while self.hashes.len() > keep {
            self.hashes.pop_front();
        }
    }

    pub(super) fn at(&self, revision: u64) -> Option<u128> {
        let place = self.hashes.binary_search_by_key(&revision, |(at, _)| *at).ok()?;
        self.hashes.get(place).map(|(_, hash)| *hash)
    }
}

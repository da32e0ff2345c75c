//! State hashes at revisions.

use std::collections::VecDeque;

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

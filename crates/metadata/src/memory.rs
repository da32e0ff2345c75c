//! The state in memory: for simulation and for model tests.

use std::collections::BTreeMap;

use crate::hash::hash_of_pair;
use crate::{Family, Kv, KvError, KvRead, Pair};

/// An ordered map for each family, with the state hash kept as it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryKv {
    families: [BTreeMap<Vec<u8>, Vec<u8>>; Family::ALL.len()],
    hash: u128,
}

impl MemoryKv {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state hash.
    pub const fn hash(&self) -> u128 {
        self.hash
    }

    fn subtract(&mut self, family: Family, key: &[u8], old: Option<Vec<u8>>) {
        if let Some(old) = old {
            self.hash = self.hash.wrapping_sub(hash_of_pair(family, key, &old));
        }
    }
}

impl KvRead for MemoryKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.families[family as usize].get(key).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.families[family as usize]
            .range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl Kv for MemoryKv {
    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.hash = self.hash.wrapping_add(hash_of_pair(family, &key, &value));
        let old = self.families[family as usize].insert(key.clone(), value);
        self.subtract(family, &key, old);
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) {
        let old = self.families[family as usize].remove(&key);
        self.subtract(family, &key, old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_of_all;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_hash_kept_is_the_hash_of_all(steps: Vec<(bool, bool, u8, Vec<u8>)>) {
            let mut kv = MemoryKv::new();
            for (wanted, put, key, value) in steps {
                let family = if wanted { Family::Wanted } else { Family::State };
                if put { kv.put(family, vec![key & 7], value) } else { kv.delete(family, vec![key & 7]) }
                prop_assert_eq!(kv.hash(), hash_of_all(&kv)?);
            }
        }
    }
}

//! Changes laid over a state that only reads, to be written as one batch.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::hash::{hash_of_pair, successor};
use crate::{Family, Kv, KvError, KvRead, Pair};

type Written = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A [`Kv`] over a [`KvRead`]: reads see what was written here, the base stays as it is. Several entries can be applied
/// to one overlay, which then becomes one write batch.
pub struct Overlay<'a, R: KvRead + ?Sized> {
    base: &'a R,
    written: [Written; Family::ALL.len()],
}

/// What an [`Overlay`] changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Pairs to set, ordered by family and key.
    pub puts: Vec<(Family, Vec<u8>, Vec<u8>)>,
    /// Keys to delete that the base has, ordered by family and key.
    pub deletes: Vec<(Family, Vec<u8>)>,
    /// To be added, wrapping, to the base's state hash.
    pub hash_delta: u128,
}

impl<'a, R: KvRead + ?Sized> Overlay<'a, R> {
    /// Nothing changed yet.
    pub fn new(base: &'a R) -> Self {
        Self { base, written: Default::default() }
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.written.iter().all(BTreeMap::is_empty)
    }

    /// What differs from the base, and by how much the state hash does. Pairs written as they were are left out.
    pub fn finish(self) -> Result<Changes, KvError> {
        let mut changes = Changes::default();
        for (family, written) in Family::ALL.into_iter().zip(self.written) {
            for (key, new) in written {
                let old = self.base.get(family, &key)?;
                changes.add(family, key, old, new);
            }
        }
        Ok(changes)
    }
}

impl Changes {
    fn add(&mut self, family: Family, key: Vec<u8>, old: Option<Vec<u8>>, new: Option<Vec<u8>>) {
        if old == new {
            return;
        }
        if let Some(old) = &old {
            self.hash_delta = self.hash_delta.wrapping_sub(hash_of_pair(family, &key, old));
        }
        match new {
            Some(new) => {
                self.hash_delta = self.hash_delta.wrapping_add(hash_of_pair(family, &key, &new));
                self.puts.push((family, key, new));
            }
            None => self.deletes.push((family, key)),
        }
    }
}

impl<R: KvRead + ?Sized> KvRead for Overlay<'_, R> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        match self.written[family as usize].get(key) {
            Some(written) => Ok(written.clone()),
            None => self.base.get(family, key),
        }
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        let written = &self.written[family as usize];
        let (mut pairs, mut from) = (Vec::new(), from.to_vec());
        while pairs.len() < limit && from.as_slice() < to {
            let page = self.base.scan(family, &from, to, limit - pairs.len())?;
            // Up to where the base is known: all of the range, or the last key of a full page.
            let next = if page.len() < limit - pairs.len() { None } else { page.last().map(|(key, _)| successor(key)) };
            let end = next.as_deref().unwrap_or(to);
            let changed = written.range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Excluded(end)));
            merge(page, changed, &mut pairs);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        pairs.truncate(limit);
        Ok(pairs)
    }
}

/// Merges two ascending runs; where both have a key, what was written wins.
fn merge<'w>(base: Vec<Pair>, changed: impl Iterator<Item = (&'w Vec<u8>, &'w Option<Vec<u8>>)>, into: &mut Vec<Pair>) {
    let mut base = base.into_iter().peekable();
    for (key, value) in changed {
        while let Some(pair) = base.next_if(|(other, _)| other < key) {
            into.push(pair);
        }
        base.next_if(|(other, _)| other == key);
        if let Some(value) = value {
            into.push((key.clone(), value.clone()));
        }
    }
    into.extend(base);
}

impl<R: KvRead + ?Sized> Kv for Overlay<'_, R> {
    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.written[family as usize].insert(key, Some(value));
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) {
        self.written[family as usize].insert(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryKv, hash_of_all};
    use proptest::prelude::*;

    type Step = (bool, u8, Vec<u8>);

    fn run(kv: &mut dyn Kv, steps: &[Step]) {
        for (put, key, value) in steps {
            let key = vec![key & 15];
            if *put { kv.put(Family::State, key, value.clone()) } else { kv.delete(Family::State, key) }
        }
    }

    proptest! {
        #[test]
        fn an_overlay_reads_and_ends_like_the_state_itself(
            before: Vec<Step>, after: Vec<Step>, from in 0u8..16, to in 0u8..17, limit in 0usize..20
        ) {
            let mut base = MemoryKv::new();
            run(&mut base, &before);
            let mut direct = base.clone();
            run(&mut direct, &after);
            let mut overlay = Overlay::new(&base);
            run(&mut overlay, &after);
            let scan = |kv: &dyn KvRead| kv.scan(Family::State, &[from], &[to], limit);
            prop_assert_eq!(scan(&overlay), scan(&direct));
            prop_assert_eq!(hash_of_all(&overlay)?, direct.hash());

            let changes = overlay.finish()?;
            prop_assert_eq!(base.hash().wrapping_add(changes.hash_delta), direct.hash());
            for (family, key, value) in changes.puts {
                base.put(family, key, value);
            }
            for (family, key) in changes.deletes {
                prop_assert!(base.get(family, &key)?.is_some());
                base.delete(family, key);
            }
            prop_assert_eq!(base, direct);
        }
    }
}

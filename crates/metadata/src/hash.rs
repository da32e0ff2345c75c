//! The state hash: equal states have equal hashes, and keeping it costs nothing but the pairs that change.
//!
//! It is the sum, modulo 2^128, of a 128-bit hash of every pair: order does not matter, and a pair is taken out by
//! subtracting it. Not a defence against someone who forges a state; it finds nodes that diverged.

use xxhash_rust::xxh3::Xxh3;

use crate::{Family, KvError, KvRead};

/// Pairs read at a time by [`hash_of_all`].
const PAGE: usize = 1_024;

/// The hash of one pair. Landed: it never changes, or nodes of two versions would differ.
pub fn hash_of_pair(family: Family, key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&[family.code()]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&(value.len() as u64).to_le_bytes());
    hasher.update(value);
    hasher.digest128()
}

/// The state hash, computed from every pair. Reads everything, in pages: for `check --deep` and for tests.
pub fn hash_of_all(kv: &dyn KvRead) -> Result<u128, KvError> {
    let mut sum = 0u128;
    for family in Family::ALL {
        let mut from = Vec::new();
        loop {
            let page = kv.scan(family, &from, END_OF_KEYS, PAGE)?;
            for (key, value) in &page {
                sum = sum.wrapping_add(hash_of_pair(family, key, value));
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => from = successor(key),
                _ => break,
            }
        }
    }
    Ok(sum)
}

/// Above every key: the first byte of a key is its kind, and no kind is 255.
pub(crate) const END_OF_KEYS: &[u8] = &[0xff];

/// The smallest key above another.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_pair_never_changes() {
        let hash = hash_of_pair(Family::State, b"key", b"value");
        assert_eq!(format!("{hash:032x}"), "809caed664fe4268a57fd5a7ba4aebec");
        assert_ne!(hash, hash_of_pair(Family::Wanted, b"key", b"value"));
        assert_ne!(hash, hash_of_pair(Family::State, b"keyv", b"alue"));
    }
}

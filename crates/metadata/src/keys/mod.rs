//! The key space. One module per key: its encoding, its record, a round-trip property test and golden bytes.
//!
//! | byte | module | key after the byte | holds |
//! |---|---|---|---|
//! | 01 | [`cluster`] | | the cluster's identity |
//! | 02 | [`clock`] | | leader time of the newest entry, and how far has been pruned |
//! | 03 | [`totals`] | | counters over all blobs |
//! | 10 | [`namespace`] | name | counters of a namespace |
//! | 11 | [`repository`] | name | kind, placement, tag removals that go on |
//! | 12 | [`manifest`] | name, digest | body, media type, subject |
//! | 13 | [`references`] | name, digest | what the manifest refers to |
//! | 14 | [`tag`] | name, tag | the manifest it points to |
//! | 15 | [`tag_history`] | name, tag, revision | its last moves and deletions |
//! | 16 | [`referrer`] | name, subject, digest | descriptor for the referrers API |
//! | 17 | [`referred_by`] | name, target, kind, referrer | reverse reference: target → referring manifests |
//! | 18 | [`manifest_tag`] | name, digest, tag | reverse reference: manifest → tags |
//! | 19 | [`removal`] | name, digest | a deleted manifest whose tags are still being removed |
//! | 1a | [`link`] | name, digest | a repository's access to a blob |
//! | 1b | [`linking`] | digest, name | reverse reference: blob → repositories |
//! | 1c | [`blob`] | digest | size, links, state in each region |
//! | 1d | [`idle_link`] | state, revision, name, digest | links that nothing uses, oldest first |
//! | 20 | [`garbage`] | region, revision, object | objects whose bytes are to be removed |
//! | 21 | [`region_counters`] | region | what is wanted, held, garbage |
//! | 22 | [`region`] | region | store, sweep epoch, job |
//! | 23 | [`node`] | number | a node |
//! | 24 | [`lease`] | region, duty | who has the duty |
//! | 30 | [`outcome`] | revision | what came of a request |
//! | 31 | [`outcome_of`] | request | its revision |
//! | 32 | [`job`] | revision | a replicated job and its cursor |
//! | 33 | [`tombstone`] | key | when a key was deleted, for retries |
//! | 34 | [`tombstone_queue`] | revision, key | tombstones, oldest first |
//! | 40 | [`wanted`] | region, revision, digest | the replication queue (family `Wanted`) |
//!
//! Names and tags end with a zero byte, which neither can have, so that no key is a prefix of another and listings are
//! in byte order; numbers are big-endian; digests carry their algorithm's code, which tells their length. A value is a
//! version byte and a prost message without maps. What has landed only grows.

pub(crate) mod blob;
#[cfg(feature = "checks")]
pub mod checks;
pub(crate) mod clock;
pub(crate) mod cluster;
mod codec;
pub(crate) mod garbage;
pub(crate) mod idle_link;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod link;
pub(crate) mod linking;
pub(crate) mod manifest;
pub(crate) mod manifest_tag;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod outcome;
pub(crate) mod outcome_of;
pub(crate) mod references;
pub(crate) mod referred_by;
pub(crate) mod referrer;
pub(crate) mod region;
pub(crate) mod region_counters;
pub(crate) mod removal;
pub(crate) mod repository;
pub(crate) mod tag;
pub(crate) mod tag_history;
#[cfg(test)]
mod testing;
pub(crate) mod tombstone;
pub(crate) mod tombstone_queue;
pub(crate) mod totals;
pub(crate) mod wanted;

pub(crate) use codec::{Key, Nothing, Reader, Writer, digest_of, page, prefix, store_of};

use crate::{Kv, KvError, KvRead};

/// Reads a key's record.
pub(crate) fn get<K: Key>(kv: &dyn KvRead, key: &K) -> Result<Option<K::Record>, KvError> {
    let key = key.encode();
    kv.get(K::FAMILY, &key)?.map(|value| codec::value::<K>(&key, &value)).transpose()
}

/// Reads a key's record, or an empty one.
pub(crate) fn get_or_default<K: Key>(kv: &dyn KvRead, key: &K) -> Result<K::Record, KvError> {
    Ok(get(kv, key)?.unwrap_or_default())
}

/// True when the key is there.
pub(crate) fn has<K: Key>(kv: &dyn KvRead, key: &K) -> Result<bool, KvError> {
    Ok(kv.get(K::FAMILY, &key.encode())?.is_some())
}

/// Sets a key's record.
pub(crate) fn put<K: Key>(kv: &mut dyn Kv, key: &K, record: &K::Record) {
    kv.put(K::FAMILY, key.encode(), codec::encode_value(record));
}

/// Removes a key.
pub(crate) fn delete<K: Key>(kv: &mut dyn Kv, key: &K) {
    kv.delete(K::FAMILY, key.encode());
}

//! Planted bugs that need a memory: caches that nobody asked for, and bytes that nobody lets go.

use std::collections::HashMap;

use atoll_fault::planted;
use atoll_metadata::read;
use atoll_types::{Digest, RepositoryName, Tag};
use bytes::Bytes;
use parking_lot::Mutex;

type Cache<K, V> = Mutex<Option<HashMap<K, V>>>;

/// What a tag pointed to when it was first looked at.
pub(crate) fn tag(repository: &RepositoryName, tag: &Tag, now: Option<Digest>) -> Option<Digest> {
    static TAGS: Cache<(RepositoryName, Tag), Digest> = Mutex::new(None);
    if planted!("tag_cached") { first(&TAGS, (repository.clone(), tag.clone()), now) } else { now }
}

/// A manifest as it was when it was first looked at.
pub(crate) fn manifest(
    repository: &RepositoryName,
    digest: &Digest,
    now: Option<read::Manifest>,
) -> Option<read::Manifest> {
    static MANIFESTS: Cache<(RepositoryName, Digest), read::Manifest> = Mutex::new(None);
    if planted!("manifest_cached") { first(&MANIFESTS, (repository.clone(), *digest), now) } else { now }
}

fn first<K: Eq + std::hash::Hash, V: Clone>(cache: &Cache<K, V>, key: K, now: Option<V>) -> Option<V> {
    let mut cache = cache.lock();
    let cache = cache.get_or_insert_default();
    if let Some(cached) = cache.get(&key) {
        return Some(cached.clone());
    }
    let now = now?;
    cache.insert(key, now.clone());
    Some(now)
}

/// Bytes that were sent.
pub(crate) fn sent(bytes: &Bytes) {
    static SENT: Mutex<Vec<Bytes>> = Mutex::new(Vec::new());
    if planted!("sent_bytes_kept") {
        SENT.lock().push(bytes.clone());
    }
}

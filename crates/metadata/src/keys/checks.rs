//! Keys as bytes, for the fuzz targets: what they hold is no part of this crate's interface.

use atoll_types::{Digest, ObjectName, RegionId, RepositoryName, Revision, Tag};

use super::codec::{encode_value, value};
use super::{Key, blob, clock, cluster, garbage, idle_link, job, lease, link, linking, manifest, manifest_tag};
use super::{
    namespace, node, outcome, outcome_of, references, referred_by, referrer, region, region_counters, removal,
};
use super::{repository, tag, tag_history, tombstone, tombstone_queue, totals, wanted};

/// Decodes a key of any kind and encodes it again; `None` when it is no key.
pub fn again(key: &[u8]) -> Option<Vec<u8>> {
    KINDS.iter().find(|kind| key.first() == Some(&kind.prefix)).and_then(|kind| (kind.key)(key))
}

/// Decodes the value of a key and encodes it again; `None` when either is none.
pub fn value_again(key: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    KINDS.iter().find(|kind| key.first() == Some(&kind.prefix)).and_then(|kind| (kind.value)(key, bytes))
}

/// The first bytes of all kinds.
pub fn prefixes() -> impl Iterator<Item = u8> {
    KINDS.iter().map(|kind| kind.prefix)
}

/// The key of a tag.
pub fn tag(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    tag::TagKey { repository: repository.clone(), tag: tag.clone() }.encode()
}

/// The key of a link.
pub fn link(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    link::LinkKey { repository: repository.clone(), digest: *digest }.encode()
}

/// The key of an entry of a replication queue.
pub fn wanted(region: &RegionId, revision: Revision, digest: &Digest) -> Vec<u8> {
    wanted::WantedKey { region: region.clone(), revision, digest: *digest }.encode()
}

/// The key of an object of the garbage.
pub fn garbage(region: &RegionId, revision: Revision, object: &ObjectName) -> Vec<u8> {
    garbage::GarbageKey { region: region.clone(), revision, object: *object }.encode()
}

struct Kind {
    prefix: u8,
    key: fn(&[u8]) -> Option<Vec<u8>>,
    value: fn(&[u8], &[u8]) -> Option<Vec<u8>>,
}

const fn kind<K: Key>() -> Kind {
    Kind {
        prefix: K::PREFIX,
        key: |key| K::decode(key).ok().map(|key| key.encode()),
        value: |key, bytes| value::<K>(key, bytes).ok().map(|record| encode_value(&record)),
    }
}

const KINDS: &[Kind] = &[
    kind::<cluster::ClusterKey>(),
    kind::<clock::ClockKey>(),
    kind::<totals::TotalsKey>(),
    kind::<namespace::NamespaceKey>(),
    kind::<repository::RepositoryKey>(),
    kind::<manifest::ManifestKey>(),
    kind::<references::ReferencesKey>(),
    kind::<tag::TagKey>(),
    kind::<tag_history::TagHistoryKey>(),
    kind::<referrer::ReferrerKey>(),
    kind::<referred_by::ReferredByKey>(),
    kind::<manifest_tag::ManifestTagKey>(),
    kind::<removal::RemovalKey>(),
    kind::<link::LinkKey>(),
    kind::<linking::LinkingKey>(),
    kind::<blob::BlobKey>(),
    kind::<idle_link::IdleLinkKey>(),
    kind::<garbage::GarbageKey>(),
    kind::<region_counters::RegionCountersKey>(),
    kind::<region::RegionKey>(),
    kind::<node::NodeKey>(),
    kind::<lease::LeaseKey>(),
    kind::<outcome::OutcomeKey>(),
    kind::<outcome_of::OutcomeOfKey>(),
    kind::<job::JobKey>(),
    kind::<tombstone::TombstoneKey>(),
    kind::<tombstone_queue::TombstoneQueueKey>(),
    kind::<wanted::WantedKey>(),
];

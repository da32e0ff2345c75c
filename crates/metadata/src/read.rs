//! Reading the state: what the use cases, replication and administration ask of a view.
//!
//! Every list is paged and bounded by its caller's limit.

mod types;

pub use types::{
    Blob, Cluster, GarbageItem, Holdings, Lag, Lease, LinkState, Manifest, Namespace, Referrer, Region, TagMove,
    Totals, Wanted,
};

use atoll_types::{ClusterId, Digest, NodeId, ObjectName, RegionId, RepositoryName, Revision, StoreId, Tag};

use crate::apply::{NODES_MAX, copies, hidden_by, registered, visible};
use crate::hash::successor;
use crate::keys::blob::BlobKey;
use crate::keys::clock::ClockKey;
use crate::keys::cluster::ClusterKey;
use crate::keys::garbage::GarbageKey;
use crate::keys::idle_link::IdleLinkKey;
use crate::keys::job::JobKey;
use crate::keys::lease::LeaseKey;
use crate::keys::link::{LinkKey, LinkUse};
use crate::keys::linking::LinkingKey;
use crate::keys::manifest::ManifestKey;
use crate::keys::namespace::NamespaceKey;
use crate::keys::node::NodeKey;
use crate::keys::referrer::ReferrerKey;
use crate::keys::region::{RegionKey, RegionRecord};
use crate::keys::region_counters::RegionCountersKey;
use crate::keys::repository::RepositoryKey;
use crate::keys::tag::{TagKey, TagRecord};
use crate::keys::tag_history::TagHistoryKey;
use crate::keys::totals::TotalsKey;
use crate::keys::wanted::WantedKey;
use crate::keys::{self, Key, digest_of, store_of};
use crate::wire::AnnotationsMessage;
use crate::{KvError, KvRead, LinkItem, ManifestBody, RegisterNode};

/// Result of a read.
pub type Result<T> = std::result::Result<T, KvError>;

/// The leader time of the newest entry applied, in milliseconds since the Unix epoch.
pub fn last_time_ms(kv: &dyn KvRead) -> Result<u64> {
    Ok(keys::get_or_default(kv, &ClockKey)?.time_ms)
}

/// The cluster's identity, once it was initialised.
pub fn cluster(kv: &dyn KvRead) -> Result<Option<Cluster>> {
    let Some(record) = keys::get(kv, &ClusterKey)? else { return Ok(None) };
    let id = ClusterId::from_slice(&record.cluster).ok_or_else(|| KvError("the cluster's id is damaged".into()))?;
    Ok(Some(Cluster { id, epoch: record.epoch }))
}

/// Whether a repository exists.
pub fn repository_exists(kv: &dyn KvRead, name: &RepositoryName) -> Result<bool> {
    keys::has(kv, &RepositoryKey { repository: name.clone() })
}

/// Repositories after `last`, by name.
pub fn repositories(kv: &dyn KvRead, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>> {
    let prefix = [RepositoryKey::PREFIX];
    let page = keys::page::<RepositoryKey>(kv, &prefix, &after(&prefix, last), limit)?;
    Ok(page.into_iter().map(|(key, _)| key.repository).collect())
}

/// The first key after a name, which need not exist or be valid. A name in a key ends with a zero byte.
fn after(prefix: &[u8], last: Option<&str>) -> Vec<u8> {
    match last {
        Some(last) => [prefix, last.as_bytes(), &[0, 0]].concat(),
        None => prefix.to_vec(),
    }
}

/// What a tag points to, and the change that moved it there.
pub fn tag(kv: &dyn KvRead, repository: &RepositoryName, tag: &Tag) -> Result<Option<(Digest, Revision)>> {
    visible(kv, repository, tag)
}

/// Tags after `last` (which need not exist or be valid), in byte order.
pub fn tags(kv: &dyn KvRead, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Vec<Tag>> {
    let Some(record) = keys::get(kv, &RepositoryKey { repository: repository.clone() })? else { return Ok(Vec::new()) };
    let prefix = TagKey::of_repository(repository);
    let (mut tags, mut from) = (Vec::new(), after(&prefix, last));
    // One page, except while tags of deleted manifests are hidden in between.
    while tags.len() < limit {
        let page = keys::page::<TagKey>(kv, &prefix, &from, limit)?;
        let (full, end) = (page.len() == limit, page.last().map(|(key, _)| successor(&key.encode())));
        for (key, tag) in page {
            if record.removals == 0 || !is_hidden(kv, repository, &tag)? {
                tags.push(key.tag);
            }
        }
        match end {
            Some(end) if full => from = end,
            _ => break,
        }
    }
    tags.truncate(limit);
    Ok(tags)
}

fn is_hidden(kv: &dyn KvRead, repository: &RepositoryName, tag: &TagRecord) -> Result<bool> {
    Ok(hidden_by(kv, repository, tag)?.is_some())
}

/// The last moves and deletions of a tag, newest first: at most 16 are kept, and those of a deleted tag for 65,536
/// revisions.
pub fn tag_history(kv: &dyn KvRead, repository: &RepositoryName, tag: &Tag, limit: usize) -> Result<Vec<TagMove>> {
    let prefix = TagHistoryKey::of_tag(repository, tag);
    let page = keys::page::<TagHistoryKey>(kv, &prefix, &prefix, crate::apply::HISTORY_MAX)?;
    let moved = |(key, record): (TagHistoryKey, keys::tag_history::TagHistoryRecord)| {
        let digest = if record.digest.is_empty() { None } else { Some(digest_of(&record.digest)?) };
        Ok(TagMove { revision: key.revision, digest, time_ms: record.time_ms, actor: record.actor })
    };
    page.into_iter().rev().take(limit).map(moved).collect()
}

/// A manifest by digest.
pub fn manifest(kv: &dyn KvRead, repository: &RepositoryName, digest: &Digest) -> Result<Option<Manifest>> {
    let key = ManifestKey { repository: repository.clone(), digest: *digest };
    let Some(record) = keys::get(kv, &key)? else { return Ok(None) };
    let body = match record.inline {
        Some(body) => ManifestBody::Inline(body),
        None => ManifestBody::Stored { size: record.stored_bytes },
    };
    let subject = if record.subject.is_empty() { None } else { Some(digest_of(&record.subject)?) };
    let (media_type, revision) = (record.media_type, Revision(record.revision));
    Ok(Some(Manifest { digest: *digest, media_type, body, subject, revision }))
}

/// Manifests that refer to a subject, after `last`, by digest.
pub fn referrers(
    kv: &dyn KvRead,
    repository: &RepositoryName,
    subject: &Digest,
    last: Option<&Digest>,
    limit: usize,
) -> Result<Vec<Referrer>> {
    let prefix = ReferrerKey::of_subject(repository, subject);
    let key = |digest: &Digest| ReferrerKey { repository: repository.clone(), subject: *subject, digest: *digest };
    let from = last.map_or_else(|| prefix.clone(), |last| successor(&key(last).encode()));
    let page = keys::page::<ReferrerKey>(kv, &prefix, &from, limit)?;
    let referrer = |(key, record): (ReferrerKey, keys::referrer::ReferrerRecord)| Referrer {
        digest: key.digest,
        media_type: record.media_type,
        size: record.size,
        artifact_type: record.artifact_type,
        annotations: record.annotations.map(AnnotationsMessage::into_pairs),
    };
    Ok(page.into_iter().map(referrer).collect())
}

/// Whether a repository links a blob.
pub fn link(kv: &dyn KvRead, repository: &RepositoryName, digest: &Digest) -> Result<Option<LinkState>> {
    let Some(record) = keys::get(kv, &LinkKey { repository: repository.clone(), digest: *digest })? else {
        return Ok(None);
    };
    Ok(Some(match record.used()? {
        LinkUse::Used | LinkUse::Unused => LinkState::Live,
        LinkUse::Condemned => LinkState::Condemned { revision: Revision(record.revision), since_ms: record.since_ms },
    }))
}

/// Links that nothing uses with the leader time since when, oldest first, after an entry: those that are condemned, or
/// those that no manifest has used yet. What `DropLinks` and `CondemnLinks` take.
pub fn idle_links(
    kv: &dyn KvRead,
    condemned: bool,
    after: Option<&LinkItem>,
    limit: usize,
) -> Result<Vec<(LinkItem, u64)>> {
    let prefix = IdleLinkKey::of_state(condemned);
    let key = |item: &LinkItem| IdleLinkKey {
        condemned,
        revision: item.revision,
        repository: item.repository.clone(),
        digest: item.digest,
    };
    let from = after.map_or_else(|| prefix.clone(), |item| successor(&key(item).encode()));
    let page = keys::page::<IdleLinkKey>(kv, &prefix, &from, limit)?;
    let item = |key: IdleLinkKey| LinkItem { repository: key.repository, digest: key.digest, revision: key.revision };
    Ok(page.into_iter().map(|(key, record)| (item(key), record.since_ms)).collect())
}

/// Some repositories that link a blob, after `last`.
pub fn linking_repositories(
    kv: &dyn KvRead,
    digest: &Digest,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<RepositoryName>> {
    let prefix = LinkingKey::of_blob(digest);
    let page = keys::page::<LinkingKey>(kv, &prefix, &after(&prefix, last), limit)?;
    Ok(page.into_iter().map(|(key, _)| key.repository).collect())
}

/// A blob's size and copies.
pub fn blob(kv: &dyn KvRead, digest: &Digest) -> Result<Option<Blob>> {
    let Some(record) = keys::get(kv, &BlobKey { digest: *digest })? else { return Ok(None) };
    let copies = copies(kv, &record)?;
    let suspect = !copies.is_empty() && copies.iter().all(|copy| copy.suspect);
    let copies = copies.into_iter().map(|copy| (copy.region, copy.object)).collect();
    Ok(Some(Blob { size: record.size, copies, suspect }))
}

/// Counters over all blobs.
pub fn totals(kv: &dyn KvRead) -> Result<Totals> {
    let totals = keys::get_or_default(kv, &TotalsKey)?;
    Ok(Totals { blobs: totals.blobs, bytes: totals.bytes, lost: totals.lost })
}

/// Counters of a namespace: the first component of a repository's name.
pub fn namespace(kv: &dyn KvRead, name: &str) -> Result<Namespace> {
    let record = keys::get_or_default(kv, &NamespaceKey { name: name.to_owned() })?;
    Ok(Namespace {
        repositories: record.repositories,
        manifests: record.manifests,
        links: record.links,
        logical_bytes: record.logical_bytes,
    })
}

/// A region's replication queue after an entry, oldest first.
pub fn wanted(
    kv: &dyn KvRead,
    region: &RegionId,
    after: Option<(Revision, Digest)>,
    limit: usize,
) -> Result<Vec<Wanted>> {
    let first = keys::get_or_default(kv, &RegionCountersKey { region: region.clone() })?.wanted_from;
    let mut from = WantedKey::from_revision(region, Revision(first));
    if let Some((revision, digest)) = after {
        from = from.max(successor(&WantedKey { region: region.clone(), revision, digest }.encode()));
    }
    let page = keys::page::<WantedKey>(kv, &WantedKey::of_region(region), &from, limit)?;
    let entry = |(key, record): (WantedKey, keys::wanted::WantedRecord)| Wanted {
        revision: key.revision,
        digest: key.digest,
        size: record.size,
        since_ms: record.since_ms,
    };
    Ok(page.into_iter().map(entry).collect())
}

/// A region's lag. Reads counters and the head of its queue: its cost does not grow with the lag.
pub fn lag(kv: &dyn KvRead, region: &RegionId) -> Result<Lag> {
    let counters = keys::get_or_default(kv, &RegionCountersKey { region: region.clone() })?;
    let record = keys::get_or_default(kv, &RegionKey { region: region.clone() })?;
    let head = wanted(kv, region, None, 1)?.first().map(|head| head.since_ms);
    let job = (counters.beyond > 0).then_some(record.job_since_ms);
    Ok(Lag {
        blobs: counters.wanted + counters.beyond,
        bytes: counters.wanted_bytes + counters.beyond_bytes,
        oldest_since_ms: head.into_iter().chain(job).min(),
        at_most: record.job != 0,
    })
}

/// What a region holds. Reads counters.
pub fn holdings(kv: &dyn KvRead, region: &RegionId) -> Result<Holdings> {
    let counters = keys::get_or_default(kv, &RegionCountersKey { region: region.clone() })?;
    Ok(Holdings {
        copies: counters.held,
        copy_bytes: counters.held_bytes,
        garbage: counters.garbage,
        garbage_bytes: counters.garbage_bytes,
    })
}

/// A region's garbage, oldest first: objects whose bytes are to be removed.
pub fn garbage(
    kv: &dyn KvRead,
    region: &RegionId,
    after: Option<(Revision, ObjectName)>,
    limit: usize,
) -> Result<Vec<(Revision, ObjectName)>> {
    let items = garbage_items(kv, region, after, limit)?;
    Ok(items.into_iter().map(|item| (item.revision, item.object)).collect())
}

/// A region's garbage with sizes and ages, oldest first.
pub fn garbage_items(
    kv: &dyn KvRead,
    region: &RegionId,
    after: Option<(Revision, ObjectName)>,
    limit: usize,
) -> Result<Vec<GarbageItem>> {
    let prefix = GarbageKey::of_region(region);
    let key = |(revision, object)| GarbageKey { region: region.clone(), revision, object };
    let from = after.map_or_else(|| prefix.clone(), |last| successor(&key(last).encode()));
    let page = keys::page::<GarbageKey>(kv, &prefix, &from, limit)?;
    let item = |(key, record): (GarbageKey, keys::garbage::GarbageRecord)| GarbageItem {
        revision: key.revision,
        object: key.object,
        size: record.size,
        since_ms: record.since_ms,
    };
    Ok(page.into_iter().map(item).collect())
}

/// All regions, by name.
pub fn regions(kv: &dyn KvRead) -> Result<Vec<Region>> {
    crate::apply::regions(kv)?.into_iter().map(|(region, record)| as_region(region, &record)).collect()
}

/// One region.
pub fn region(kv: &dyn KvRead, region: &RegionId) -> Result<Option<Region>> {
    let record = keys::get(kv, &RegionKey { region: region.clone() })?;
    record.map(|record| as_region(region.clone(), &record)).transpose()
}

fn as_region(region: RegionId, record: &RegionRecord) -> Result<Region> {
    let store: Option<StoreId> = store_of(&record.store)?;
    Ok(Region { region, store, paused: record.paused, sweep_epoch: record.sweep_epoch })
}

/// All nodes that were not removed, by number.
pub fn nodes(kv: &dyn KvRead) -> Result<Vec<RegisterNode>> {
    let all = keys::page::<NodeKey>(kv, &[NodeKey::PREFIX], &[], NODES_MAX)?;
    all.into_iter().filter(|(_, record)| !record.removed).map(|(_, record)| registered(record)).collect()
}

/// The lease of a region's duty.
pub fn lease(kv: &dyn KvRead, region: &RegionId, duty: &str) -> Result<Option<Lease>> {
    let record = keys::get(kv, &LeaseKey { region: region.clone(), duty: duty.to_owned() })?;
    Ok(record.map(|record| Lease { holder: NodeId(record.holder), expires_ms: record.expires_ms }))
}

/// Jobs that are not finished, oldest first.
pub fn jobs(kv: &dyn KvRead, limit: usize) -> Result<Vec<Revision>> {
    let page = keys::page::<JobKey>(kv, &[JobKey::PREFIX], &[], limit)?;
    Ok(page.into_iter().map(|(key, _)| key.revision).collect())
}

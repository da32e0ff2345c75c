//! Everything that must hold of any state, recomputed from scratch and compared.

// It ends by a panic, as an assertion does.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use atoll_types::{Digest, ObjectName, RegionId, RepositoryName, Revision, Tag};

use crate::apply::placement::{Place, place};
use crate::keys::blob::{BlobKey, BlobRecord};
use crate::keys::garbage::GarbageKey;
use crate::keys::idle_link::IdleLinkKey;
use crate::keys::job::{JobKey, JobRecord};
use crate::keys::link::{LinkKey, LinkUse};
use crate::keys::linking::LinkingKey;
use crate::keys::manifest::{ManifestKey, ManifestRecord};
use crate::keys::manifest_tag::ManifestTagKey;
use crate::keys::namespace::{NamespaceKey, NamespaceRecord};
use crate::keys::outcome::OutcomeKey;
use crate::keys::outcome_of::OutcomeOfKey;
use crate::keys::references::ReferencesKey;
use crate::keys::referred_by::{As, ReferredByKey};
use crate::keys::referrer::ReferrerKey;
use crate::keys::region::{RegionKey, RegionRecord};
use crate::keys::region_counters::{RegionCounters, RegionCountersKey};
use crate::keys::removal::RemovalKey;
use crate::keys::repository::RepositoryKey;
use crate::keys::tag::{TagKey, TagRecord};
use crate::keys::tag_history::TagHistoryKey;
use crate::keys::tombstone::TombstoneKey;
use crate::keys::tombstone_queue::TombstoneQueueKey;
use crate::keys::totals::{TotalsKey, TotalsRecord};
use crate::keys::wanted::WantedKey;
use crate::keys::{self, Key, digest_of};
use crate::{Family, KvRead, MemoryKv, hash_of_all, read};

fn all<K: Key>(kv: &MemoryKv) -> Vec<(K, K::Record)> {
    keys::page(kv, &[K::PREFIX], &[], usize::MAX).unwrap()
}

/// Panics, saying what is wrong, unless every invariant of the state holds.
#[allow(unreachable_pub)] // the feature `checks` hands it out
pub fn check(kv: &MemoryKv) {
    assert_eq!(kv.hash(), hash_of_all(kv).unwrap(), "the state hash is that of all pairs");
    let links = check_links(kv);
    let blobs = check_blobs(kv, &links);
    check_regions(kv, &blobs);
    check_suspects(kv, &blobs);
    let manifests = check_references(kv, &links);
    check_tags(kv, &manifests);
    check_namespaces(kv, &manifests, &links, &blobs);
    check_jobs(kv);
    check_requests(kv);
}

type Links = BTreeMap<(RepositoryName, Digest), LinkUse>;
type Blobs = BTreeMap<Digest, BlobRecord>;
type Manifests = BTreeMap<(RepositoryName, Digest), ManifestRecord>;

/// Links, their index by blob, and the lists of those that nothing uses.
fn check_links(kv: &MemoryKv) -> Links {
    let mut links = Links::new();
    let (mut idle, mut index) = (BTreeSet::new(), BTreeSet::new());
    for (LinkKey { repository, digest }, record) in all::<LinkKey>(kv) {
        let used = record.used().unwrap();
        if used != LinkUse::Used {
            idle.insert((used == LinkUse::Condemned, record.revision, repository.to_string(), digest));
        }
        index.insert((digest, repository.to_string()));
        links.insert((repository, digest), used);
    }
    let found = all::<LinkingKey>(kv).into_iter().map(|(key, _)| (key.digest, key.repository.to_string())).collect();
    assert_eq!(index, found, "repositories by blob");
    let found = all::<IdleLinkKey>(kv).into_iter();
    let found = found.map(|(key, _)| (key.condemned, key.revision.0, key.repository.to_string(), key.digest)).collect();
    assert_eq!(idle, found, "links that nothing uses");
    links
}

fn check_blobs(kv: &MemoryKv, links: &Links) -> Blobs {
    let mut count = BTreeMap::<Digest, u64>::new();
    for (_, digest) in links.keys() {
        *count.entry(*digest).or_default() += 1;
    }
    let blobs: Blobs = all::<BlobKey>(kv).into_iter().map(|(key, record)| (key.digest, record)).collect();
    let found = blobs.iter().map(|(digest, record)| (*digest, record.links)).collect();
    assert_eq!(count, found, "a blob has a record if and only if it is linked, and counts its links");
    let mut totals = TotalsRecord::default();
    for record in blobs.values() {
        totals.blobs += 1;
        totals.bytes += record.size;
        totals.lost += u64::from(record.lost);
    }
    assert_eq!(keys::get_or_default(kv, &TotalsKey).unwrap(), totals, "counters over all blobs");
    blobs
}

/// The wanted rule, the counters, and that every object is named once.
fn check_regions(kv: &MemoryKv, blobs: &Blobs) {
    let regions = all::<RegionKey>(kv);
    let jobs: BTreeMap<u64, JobRecord> =
        all::<JobKey>(kv).into_iter().map(|(key, job)| (key.revision.0, job)).collect();
    let (mut held, mut objects) = (BTreeSet::new(), Vec::new());
    let mut queue = BTreeSet::new();
    for (RegionKey { region }, record) in &regions {
        let mut counters = RegionCounters::default();
        for (digest, blob) in blobs {
            match place(blob, region, record.generation).unwrap() {
                Place::Held(object) => {
                    (counters.held, counters.held_bytes) = (counters.held + 1, counters.held_bytes + blob.size);
                    held.insert(*digest);
                    objects.push((region.clone(), object));
                }
                Place::Wanted(revision) => {
                    (counters.wanted, counters.wanted_bytes) = (counters.wanted + 1, counters.wanted_bytes + blob.size);
                    queue.insert((region.to_string(), revision, *digest));
                }
                Place::Beyond => {
                    (counters.beyond, counters.beyond_bytes) = (counters.beyond + 1, counters.beyond_bytes + blob.size);
                    let cursor = &jobs[&record.job].cursor;
                    let key = BlobKey { digest: *digest }.encode();
                    assert!(key >= *cursor, "{digest} is beyond the job of {region}, which has passed it");
                }
            }
        }
        check_counters(kv, region, counters, &mut objects);
    }
    let found = all::<WantedKey>(kv).into_iter();
    let found: BTreeSet<_> = found.map(|(key, _)| (key.region.to_string(), key.revision, key.digest)).collect();
    assert_eq!(queue, found, "wanted is what placement asks for and copies lack");
    let distinct: BTreeSet<_> = objects.iter().collect();
    assert_eq!(distinct.len(), objects.len(), "an object is named once: {objects:?}");
    check_lost(&regions, blobs, &held);
}

fn check_counters(
    kv: &MemoryKv,
    region: &RegionId,
    mut counters: RegionCounters,
    objects: &mut Vec<(RegionId, ObjectName)>,
) {
    let prefix = GarbageKey::of_region(region);
    for (key, record) in keys::page::<GarbageKey>(kv, &prefix, &prefix, usize::MAX).unwrap() {
        (counters.garbage, counters.garbage_bytes) = (counters.garbage + 1, counters.garbage_bytes + record.size);
        objects.push((region.clone(), key.object));
    }
    let found = keys::get_or_default(kv, &RegionCountersKey { region: region.clone() }).unwrap();
    counters.wanted_from = found.wanted_from;
    assert_eq!(found, counters, "counters of {region}");
    let prefix = WantedKey::of_region(region);
    if let Some((head, _)) = keys::page::<WantedKey>(kv, &prefix, &prefix, 1).unwrap().first() {
        assert!(head.revision.0 >= counters.wanted_from, "the low-water bound of {region} is too high");
    }
}

fn check_lost(regions: &[(RegionKey, RegionRecord)], blobs: &Blobs, held: &BTreeSet<Digest>) {
    let settled = regions.iter().all(|(_, record)| record.job == 0);
    for (digest, blob) in blobs {
        assert!(!(blob.lost && held.contains(digest)), "{digest} is lost and held");
        assert!(
            !settled || regions.is_empty() || blob.lost != held.contains(digest),
            "{digest} is nowhere and not lost"
        );
    }
}

/// Only a copy is suspect, and only while no region has one that is not; reads say so.
fn check_suspects(kv: &MemoryKv, blobs: &Blobs) {
    let generations: BTreeMap<String, u64> =
        all::<RegionKey>(kv).into_iter().map(|(key, record)| (key.region.to_string(), record.generation)).collect();
    for (digest, blob) in blobs {
        let copies = blob.regions.iter().filter(|entry| entry.object.is_some());
        let copies: Vec<_> = copies.filter(|entry| generations[&entry.region] == entry.generation).collect();
        let suspect = copies.iter().filter(|entry| entry.suspect).count();
        assert!(suspect == 0 || suspect == copies.len(), "{digest} has good and suspect copies: {copies:?}");
        assert!(suspect <= 1, "{digest} has several last copies: {copies:?}");
        let queued = blob.regions.iter().filter(|entry| entry.object.is_none());
        assert!(queued.into_iter().all(|entry| !entry.suspect), "{digest} is suspect where it has no copy");
        let read = read::blob(kv, digest).unwrap().unwrap();
        assert_eq!((read.suspect, read.is_sound()), (suspect > 0, copies.len() > suspect), "reads of {digest}");
    }
}

/// References both ways, and that what a manifest refers to is there.
fn check_references(kv: &MemoryKv, links: &Links) -> Manifests {
    let manifests: Manifests =
        all::<ManifestKey>(kv).into_iter().map(|(key, record)| ((key.repository, key.digest), record)).collect();
    let (mut reverse, mut used, mut referrers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let forward: BTreeMap<_, _> =
        all::<ReferencesKey>(kv).into_iter().map(|(key, record)| ((key.repository, key.digest), record)).collect();
    assert!(forward.keys().eq(manifests.keys()), "each manifest has its references");
    for ((repository, digest), record) in &manifests {
        let mut refer = |target: Digest, kind: As| {
            reverse.insert((repository.to_string(), target, kind == As::Blob, *digest));
            if kind == As::Blob {
                assert!(links.contains_key(&(repository.clone(), target)), "{digest} refers to {target}");
                used.insert((repository.clone(), target));
            } else {
                assert!(manifests.contains_key(&(repository.clone(), target)), "{digest} has the child {target}");
            }
        };
        for reference in &forward[&(repository.clone(), *digest)].references {
            let kind = if reference.blob_bytes.is_some() { As::Blob } else { As::Child };
            refer(digest_of(&reference.digest).unwrap(), kind);
        }
        if record.inline.is_none() {
            refer(*digest, As::Blob);
        }
        if !record.subject.is_empty() {
            referrers.insert((repository.to_string(), digest_of(&record.subject).unwrap(), *digest));
        }
    }
    let found = all::<ReferredByKey>(kv).into_iter();
    let found = found.map(|(k, _)| (k.repository.to_string(), k.target, k.kind == As::Blob, k.referrer)).collect();
    assert_eq!(reverse, found, "reverse references");
    let found = all::<ReferrerKey>(kv).into_iter();
    assert_eq!(referrers, found.map(|(k, _)| (k.repository.to_string(), k.subject, k.digest)).collect(), "referrers");
    for (key, link) in links {
        assert_eq!(*link == LinkUse::Used, used.contains(key), "the link {key:?} is used if a manifest uses it");
    }
    manifests
}

fn check_tags(kv: &MemoryKv, manifests: &Manifests) {
    let removals: BTreeMap<(RepositoryName, Digest), u64> = all::<RemovalKey>(kv)
        .into_iter()
        .map(|(key, record)| ((key.repository, key.digest), record.revision))
        .collect();
    let tags: BTreeMap<(RepositoryName, Tag), TagRecord> =
        all::<TagKey>(kv).into_iter().map(|(key, record)| ((key.repository, key.tag), record)).collect();
    let mut index = BTreeSet::new();
    for ((repository, tag), record) in &tags {
        let target = (repository.clone(), digest_of(&record.digest).unwrap());
        let hidden = removals.get(&target).is_some_and(|revision| record.revision <= *revision);
        assert!(hidden || manifests.contains_key(&target), "{tag} points to a manifest that is there");
        let history = TagHistoryKey::of_tag(repository, tag);
        let history = keys::page::<TagHistoryKey>(kv, &history, &history, usize::MAX).unwrap();
        assert!(history.len() <= crate::apply::HISTORY_MAX);
        assert_eq!(history.last().unwrap().0.revision.0, record.revision, "the newest of the history is the tag");
        index.insert((repository.to_string(), target.1, tag.clone()));
    }
    let found = all::<ManifestTagKey>(kv).into_iter();
    assert_eq!(index, found.map(|(k, _)| (k.repository.to_string(), k.digest, k.tag)).collect(), "tags by manifest");
    for (RepositoryKey { repository }, record) in all::<RepositoryKey>(kv) {
        let count = removals.keys().filter(|(of, _)| *of == repository).count();
        assert_eq!(record.removals, count as u64, "removals of {repository}");
    }
}

fn check_namespaces(kv: &MemoryKv, manifests: &Manifests, links: &Links, blobs: &Blobs) {
    let mut counted = BTreeMap::<String, NamespaceRecord>::new();
    for (key, _) in all::<RepositoryKey>(kv) {
        counted.entry(key.repository.namespace().to_owned()).or_default().repositories += 1;
    }
    for ((repository, _), record) in manifests {
        let counters = counted.get_mut(repository.namespace()).unwrap();
        counters.manifests += 1;
        counters.logical_bytes += record.inline.as_ref().map_or(0, |body| body.len() as u64);
    }
    for (repository, digest) in links.keys() {
        let counters = counted.get_mut(repository.namespace()).unwrap();
        counters.links += 1;
        counters.logical_bytes += blobs[digest].size;
    }
    let found = all::<NamespaceKey>(kv).into_iter().map(|(key, record)| (key.name, record)).collect();
    assert_eq!(counted, found, "counters of namespaces");
}

/// Every job is named by what it works for, and the other way round.
fn check_jobs(kv: &MemoryKv) {
    let of_regions = all::<RegionKey>(kv).into_iter().map(|(_, record)| record.job).filter(|job| *job != 0);
    let of_removals = all::<RemovalKey>(kv).into_iter().map(|(_, record)| record.job);
    let named: BTreeSet<u64> = of_regions.chain(of_removals).collect();
    let found = all::<JobKey>(kv).into_iter().map(|(key, _)| key.revision.0).collect();
    assert_eq!(named, found, "jobs");
}

fn check_requests(kv: &MemoryKv) {
    let outcomes: BTreeSet<_> =
        all::<OutcomeKey>(kv).into_iter().map(|(key, record)| (record.request, key.revision.0)).collect();
    let found = all::<OutcomeOfKey>(kv).into_iter();
    let found = found.map(|(key, record)| (key.request.as_bytes().to_vec(), record.revision)).collect();
    assert_eq!(outcomes, found, "outcomes by request");
    let tombstones: BTreeSet<_> =
        all::<TombstoneKey>(kv).into_iter().map(|(key, record)| (Revision(record.revision), key.of)).collect();
    let found = all::<TombstoneQueueKey>(kv).into_iter().map(|(key, _)| (key.revision, key.of)).collect();
    assert_eq!(tombstones, found, "tombstones by revision");
    for (_, of) in tombstones {
        assert_eq!(kv.get(Family::State, &of).unwrap(), None, "what has a tombstone is not there");
    }
}

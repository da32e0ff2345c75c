//! I15: wanted is what placement asks for and stores lack, counters equal what they count, and every object in a store
//! is named by a copy or by garbage, unless something went wrong of which it may be left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use atoll_blobstore::BlobStore as _;
use atoll_metadata::{KvError, check_invariants, read};
use atoll_types::{ObjectName, RegionId};

use crate::world::World;

/// More than a run stores.
const PAGE: usize = 100_000;

pub(crate) async fn check(world: &Arc<World>) {
    recompute(world);
    for region in world.regions() {
        check_region(world, &region).await;
        check_store(world, &region).await;
    }
}

/// The state machine's own account of a state, from scratch.
fn recompute(world: &World) {
    let kv = world.log.truth(|truth| truth.kv.clone());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check_invariants(&kv))) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.judge.violated("I15", format!("the state contradicts itself: {}", text.unwrap_or_default()));
    }
}

/// The queue and the counters of a region, by what its store really holds of each blob.
async fn check_region(world: &World, region: &RegionId) {
    let kv = world.log.truth(|truth| truth.kv.clone());
    let (mut held, mut bytes, mut lacking) = (0, 0, Vec::new());
    for digest in world.content.digests() {
        let Ok(Some(blob)) = read::blob(&kv, digest) else { continue };
        let copy = blob.copies.iter().find(|(of, _)| of == region);
        match copy {
            Some((_, object)) if world.holds(region, digest, object).await => {
                (held, bytes) = (held + 1, bytes + blob.size);
            }
            Some(_) | None => lacking.push(*digest),
        }
    }
    lacking.sort();
    let queue_and_counters = || {
        let mut wanted: Vec<_> =
            read::wanted(&kv, region, None, PAGE)?.into_iter().map(|wanted| wanted.digest).collect();
        // What the harness itself pushed is no part of the world.
        wanted.retain(|digest| world.content.bytes(digest).is_some());
        wanted.sort();
        let holdings = read::holdings(&kv, region)?;
        Ok::<_, KvError>((wanted == lacking, holdings.copies >= held && holdings.copy_bytes >= bytes))
    };
    let checked = queue_and_counters();
    if checked != Ok((true, true)) {
        world.judge.violated("I15", format!("queue and counters of {region} are not what it holds: {checked:?}"));
    }
}

async fn check_store(world: &World, region: &RegionId) {
    let Some(disk) = world.disk(region) else { return };
    let is_excused = |name: &ObjectName| disk.is_untold(name) || world.log.may_be_named(name);
    let orphans: Vec<_> = unnamed(world, region).await.into_iter().filter(|name| !is_excused(name)).collect();
    let excuses = disk.excuses();
    if orphans.len() as u64 > excuses {
        let what =
            format!("{region} has objects that nothing names, {orphans:?}, after {excuses} events that may leave one");
        world.judge.violated("I15", what);
    }
}

/// Objects of a region's store that neither a copy nor garbage names.
pub(crate) async fn unnamed(world: &World, region: &RegionId) -> Vec<ObjectName> {
    let Some(disk) = world.disk(region) else { return Vec::new() };
    let objects = disk.objects.list(None, PAGE).await.unwrap_or_default();
    let named = world.log.truth(|truth| named(truth, region));
    objects.into_iter().map(|info| info.name).filter(|name| !named.contains(name)).collect()
}

/// Names of a region's copies and garbage.
pub(super) fn named(truth: &crate::log::Truth, region: &RegionId) -> Vec<ObjectName> {
    let copies = truth.copies(region);
    let garbage = read::garbage(&truth.kv, region, None, PAGE).unwrap_or_default();
    copies.into_iter().map(|(_, object)| object).chain(garbage.into_iter().map(|(_, object)| object)).collect()
}

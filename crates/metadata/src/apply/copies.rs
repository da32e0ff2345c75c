//! Copies and garbage of a region.

use atoll_types::{ObjectName, RegionId, Revision, StoreId};

use super::placement::{self, Blob, Place};
use super::{Run, Step, bounded};
use crate::keys::garbage::GarbageKey;
use crate::keys::region::RegionRecord;
use crate::keys::region_counters::RegionCountersKey;
use crate::{Command, CopyItem, CopyOutcome, Done, DropItem, KvError};

/// RecordCopies.
pub(super) fn record_copies(step: &mut Step<'_>, region: &RegionId, store: &StoreId, copies: &[CopyItem]) -> Run<Done> {
    bounded(copies, Command::ITEMS_MAX)?;
    let of = placement::region_with_store(step, region, store)?;
    let outcomes: Result<Vec<_>, KvError> = copies.iter().map(|item| record(step, region, &of, item)).collect();
    Ok(Done::Copies(outcomes?))
}

fn record(step: &mut Step<'_>, region: &RegionId, of: &RegionRecord, item: &CopyItem) -> Result<CopyOutcome, KvError> {
    let Some(mut blob) = Blob::load(step, &item.digest)? else { return Ok(CopyOutcome::NotWanted) };
    match placement::place(&blob.record, region, of.generation)? {
        Place::Held(object) if object == item.object => return Ok(CopyOutcome::Already),
        Place::Held(_) => return Ok(CopyOutcome::NotWanted),
        Place::Wanted(_) | Place::Beyond => {}
    }
    if blob.record.size != item.size {
        return Ok(CopyOutcome::SizeMismatch);
    }
    if placement::is_stale(of, &item.object) {
        return Ok(CopyOutcome::StaleEpoch);
    }
    blob.hold(step, region, of.generation, &item.object)?;
    blob.save(step)?;
    Ok(CopyOutcome::Done)
}

/// DropCopies.
pub(super) fn drop_copies(step: &mut Step<'_>, region: &RegionId, copies: &[DropItem]) -> Run<Done> {
    bounded(copies, Command::ITEMS_MAX)?;
    let generation = placement::known_region(step, region)?.generation;
    let outcomes: Result<Vec<_>, KvError> =
        copies.iter().map(|item| drop_one(step, region, generation, item)).collect();
    Ok(Done::Copies(outcomes?))
}

fn drop_one(step: &mut Step<'_>, region: &RegionId, generation: u64, item: &DropItem) -> Result<CopyOutcome, KvError> {
    let Some(mut blob) = Blob::load(step, &item.digest)? else { return Ok(CopyOutcome::Already) };
    if placement::place(&blob.record, region, generation)? != Place::Held(item.object) {
        return Ok(CopyOutcome::Already);
    }
    let dropped = blob.distrust(step, region, generation)?;
    blob.save(step)?;
    Ok(if dropped { CopyOutcome::Done } else { CopyOutcome::LastCopy })
}

/// ForgetGarbage.
pub(super) fn forget_garbage(step: &mut Step<'_>, region: &RegionId, objects: &[(Revision, ObjectName)]) -> Run<Done> {
    bounded(objects, Command::ITEMS_MAX)?;
    placement::known_region(step, region)?;
    for (revision, object) in objects {
        let key = GarbageKey { region: region.clone(), revision: *revision, object: *object };
        if let Some(record) = step.get(&key)? {
            step.delete(&key);
            step.update(&RegionCountersKey { region: region.clone() }, |counters| {
                counters.garbage -= 1;
                counters.garbage_bytes -= record.size;
            })?;
        }
    }
    Ok(Done::Empty)
}

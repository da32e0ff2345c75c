//! Regions: their stores, sweep epochs and pauses.

use atoll_types::{RegionId, StoreId};

use super::placement::{self, REGIONS_MAX, known_region};
use super::{Run, Step, job};
use crate::keys::region::{RegionKey, RegionRecord};
use crate::keys::region_counters::{RegionCounters, RegionCountersKey};
use crate::keys::store_of;
use crate::keys::totals::TotalsKey;
use crate::{Done, Rejection, TooLarge};

/// The least time between two sweep epochs, in milliseconds of leader time.
const SWEEP_INTERVAL_MS: u64 = 24 * 60 * 60 * 1_000;
/// The first epoch: the one before it exists, so that the rule "not below the epoch before" needs no special case.
const FIRST_SWEEP_EPOCH: u64 = 1;

/// RegisterRegion.
pub(super) fn register_region(step: &mut Step<'_>, region: &RegionId) -> Run<Done> {
    let key = RegionKey { region: region.clone() };
    if step.has(&key)? {
        return Ok(Done::Empty);
    }
    if placement::regions(step.kv)?.len() == REGIONS_MAX {
        return Err(Rejection::TooLarge(TooLarge::Regions { limit: REGIONS_MAX as u64 }).into());
    }
    let mut record = RegionRecord {
        revision: step.revision.0,
        sweep_epoch: FIRST_SWEEP_EPOCH,
        sweep_since_ms: step.time_ms,
        ..Default::default()
    };
    let totals = step.get_or_default(&TotalsKey)?;
    let counters = RegionCounters { beyond: totals.blobs, beyond_bytes: totals.bytes, ..Default::default() };
    if counters.beyond > 0 {
        job::start_reconciliation(step, region, &mut record);
    }
    step.put(&RegionCountersKey { region: region.clone() }, &counters);
    step.put(&key, &record);
    Ok(Done::Empty)
}

/// SetStore.
pub(super) fn set_store(
    step: &mut Step<'_>,
    region: &RegionId,
    store: &StoreId,
    replaces: Option<&StoreId>,
) -> Run<Done> {
    let mut record = known_region(step, region)?;
    let present = store_of(&record.store)?;
    if present.as_ref() == Some(store) {
        return Ok(Done::Empty);
    }
    if present.as_ref() != replaces {
        return Err(Rejection::StoreMismatch(region.to_string()).into());
    }
    record.store = store.as_bytes().to_vec();
    record.generation += 1;
    let key = RegionCountersKey { region: region.clone() };
    let mut counters = step.get_or_default(&key)?;
    // Copies of the old store are beyond the job that drops them, from now on.
    counters.beyond += std::mem::take(&mut counters.held);
    counters.beyond_bytes += std::mem::take(&mut counters.held_bytes);
    if counters.beyond > 0 {
        job::start_reconciliation(step, region, &mut record);
    }
    step.put(&key, &counters);
    step.put(&RegionKey { region: region.clone() }, &record);
    Ok(Done::Empty)
}

/// AdvanceSweep.
pub(super) fn advance_sweep(step: &mut Step<'_>, region: &RegionId) -> Run<Done> {
    let mut record = known_region(step, region)?;
    if step.time_ms.saturating_sub(record.sweep_since_ms) >= SWEEP_INTERVAL_MS {
        record.sweep_epoch += 1;
        record.sweep_since_ms = step.time_ms;
        step.put(&RegionKey { region: region.clone() }, &record);
    }
    Ok(Done::SweepEpoch(record.sweep_epoch))
}

/// SetReplicationPaused.
pub(super) fn set_paused(step: &mut Step<'_>, region: &RegionId, paused: bool) -> Run<Done> {
    let mut record = known_region(step, region)?;
    record.paused = paused;
    record.paused_revision = step.revision.0;
    step.put(&RegionKey { region: region.clone() }, &record);
    Ok(Done::Empty)
}

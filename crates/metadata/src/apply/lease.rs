//! Leases of a region's duties.

use atoll_types::{NodeId, RegionId};

use super::{Run, Step, placement};
use crate::keys::lease::{LeaseKey, LeaseRecord};
use crate::{Done, Rejection, TooLarge};

/// The longest lease, in milliseconds: how long a duty may rest after its holder died.
const TTL_MS_MAX: u64 = 10 * 60 * 1_000;
/// The longest name of a duty, in bytes.
const DUTY_BYTES_MAX: usize = 64;

/// AcquireLease: granted when it is free, has ended, or is the asker's own.
pub(super) fn acquire(step: &mut Step<'_>, region: &RegionId, duty: &str, holder: NodeId, ttl_ms: u64) -> Run<Done> {
    placement::known_region(step, region)?;
    if ttl_ms > TTL_MS_MAX {
        return Err(Rejection::TooLarge(TooLarge::LeaseTtl { ttl_ms, limit_ms: TTL_MS_MAX }).into());
    }
    if duty.len() > DUTY_BYTES_MAX || duty.contains('\0') {
        let (bytes, limit) = (duty.len() as u64, DUTY_BYTES_MAX as u64);
        return Err(Rejection::TooLarge(TooLarge::Duty { bytes, limit }).into());
    }
    let key = LeaseKey { region: region.clone(), duty: duty.to_owned() };
    let now_ms = step.time_ms;
    if let Some(found) = step.get(&key)?.filter(|found| found.holder != holder.0 && found.expires_ms > now_ms) {
        let (holder, expires_ms) = (NodeId(found.holder), found.expires_ms);
        return Ok(Done::Lease { granted: false, holder, expires_ms, now_ms });
    }
    let expires_ms = now_ms.saturating_add(ttl_ms);
    step.put(&key, &LeaseRecord { holder: holder.0, expires_ms, revision: step.revision.0 });
    Ok(Done::Lease { granted: true, holder, expires_ms, now_ms })
}

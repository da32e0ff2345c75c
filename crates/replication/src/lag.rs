//! How far each region lags, from replicated state alone: any node can tell it for every region.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atoll_fault::planted;
use atoll_metadata::{KvError, KvRead, read};
use atoll_registry::{Freshness, MetadataGroup, MetadataGroupExt, Mode};
use atoll_types::{RegionId, Revision};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How far one region lags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionLag {
    /// The region.
    pub region: RegionId,
    /// False when this node cannot prove that it is current: the lag is at least this, as of its revision.
    pub known: bool,
    /// Blobs that are wanted.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// For how long the oldest is wanted, in milliseconds; `None` when nothing is.
    pub oldest_age_ms: Option<u64>,
    /// True while a job is still counting: it may be less than this.
    pub at_most: bool,
    /// Whether an operator paused its fetching.
    pub paused: bool,
}

/// The lag of all regions at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LagReport {
    /// As of which revision.
    pub revision: Revision,
    /// How old that view may be; `None` is unknown.
    pub staleness: Option<Duration>,
    /// All regions, by name.
    pub regions: Vec<RegionLag>,
}

/// What time the leader would stamp now, as far as this node can tell.
///
/// Leader time goes on at the pace of a monotonic clock, and never back. This node knows the newest stamp that it has
/// applied and for how long it has known it; where its wall clock is ahead of that, the wall clock counts, since a
/// lag must never be told too small.
#[derive(Default)]
pub struct LeaderClock(Mutex<Option<(u64, Instant)>>);

impl LeaderClock {
    /// The leader's time in milliseconds since the Unix epoch, given the newest stamp applied here.
    pub fn now_ms(&self, last_time_ms: u64) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.estimate(last_time_ms, millis(wall), Instant::now())
    }

    fn estimate(&self, last_time_ms: u64, wall_ms: u64, now: Instant) -> u64 {
        let mut seen = self.0.lock();
        let (stamp, at) = match *seen {
            Some((stamp, at)) if stamp >= last_time_ms => (stamp, at),
            Some((stamp, at)) => {
                let due = stamp + millis(now - at);
                (last_time_ms.max(due), now)
            }
            None => (last_time_ms, now),
        };
        *seen = Some((stamp, at));
        (stamp + millis(now - at)).max(wall_ms)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The lag of all regions as this node knows it.
pub fn lag_report(metadata: &Arc<dyn MetadataGroup>, clock: &LeaderClock) -> Result<LagReport, KvError> {
    let freshness = metadata.freshness();
    metadata.read(|kv| {
        let now_ms = clock.now_ms(read::last_time_ms(kv)?);
        Ok(LagReport {
            revision: freshness.applied,
            staleness: freshness.staleness,
            regions: region_lags(kv, &freshness, now_ms)?,
        })
    })
}

/// The lag of all regions in one view, with ages as of a leader time.
pub fn region_lags(kv: &dyn KvRead, freshness: &Freshness, now_ms: u64) -> Result<Vec<RegionLag>, KvError> {
    let known = freshness.mode == Mode::ReadWrite && freshness.staleness.is_some() || planted!("lag_always_known");
    let of = |region: read::Region| {
        let lag = read::lag(kv, &region.region)?;
        Ok(RegionLag {
            region: region.region,
            known,
            blobs: lag.blobs.saturating_sub(u64::from(planted!("lag_one_less"))),
            bytes: lag.bytes,
            oldest_age_ms: lag.oldest_since_ms.map(|since| now_ms.saturating_sub(since)),
            at_most: lag.at_most,
            paused: region.paused,
        })
    };
    read::regions(kv)?.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_idle_group_ages_by_the_monotonic_clock_and_a_wall_clock_that_is_behind_does_not_matter() {
        let (clock, start) = (LeaderClock::default(), Instant::now());
        assert_eq!(clock.estimate(1_000_000, 5, start), 1_000_000);
        assert_eq!(clock.estimate(1_000_000, 6, start + Duration::from_secs(3)), 1_003_000);
        assert_eq!(clock.estimate(1_000_000, 2_000_000, start + Duration::from_secs(3)), 2_000_000);
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_is_never_before_a_stamp(
            steps in proptest::collection::vec((0..5_000u64, 0..5_000u64, any::<bool>()), 1..50),
        ) {
            let (clock, mut at, mut stamp, mut before) = (LeaderClock::default(), Instant::now(), 1_000, 0);
            for (passed, ahead, stamped) in steps {
                at += Duration::from_millis(passed);
                stamp += if stamped { ahead } else { 0 };
                let now = clock.estimate(stamp, 0, at);
                prop_assert!(now >= before && now >= stamp, "{now} after {before}, stamp {stamp}");
                before = now;
            }
        }
    }
}

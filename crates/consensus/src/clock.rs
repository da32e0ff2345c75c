//! Time as a port, and the stamps that a leader puts on commands.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use atoll_storage::{StateStore, StorageError};
use parking_lot::Mutex;

/// Where time comes from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since the Unix epoch by the wall clock, which may jump.
    fn wall_ms(&self) -> u64;

    /// Time since some moment in the past, which never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Stamps commands: `max(wall clock, last stamp + monotonic time since)`. A clock that is set back does not stop leader
/// time, and leases neither end early nor last long.
#[derive(Debug)]
pub(crate) struct Stamper {
    clock: std::sync::Arc<dyn Clock>,
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    stamp_ms: u64,
    at: Duration,
}

impl Stamper {
    pub(crate) fn new(clock: std::sync::Arc<dyn Clock>) -> Self {
        let at = clock.monotonic();
        Self { clock, last: Mutex::new(Last { stamp_ms: 0, at }) }
    }

    /// The time of a command that is proposed now.
    pub(crate) fn stamp(&self) -> u64 {
        let mut last = self.last.lock();
        let at = self.clock.monotonic();
        let since = u64::try_from(at.saturating_sub(last.at).as_millis()).unwrap_or(u64::MAX);
        let stamp_ms = self.clock.wall_ms().max(last.stamp_ms.saturating_add(since));
        *last = Last { stamp_ms, at };
        stamp_ms
    }

    /// Learns how far a state has come: its entries may be gone from the log, and were stamped by a clock that was ahead.
    pub(crate) fn learn(&self, state: &StateStore) -> Result<(), StorageError> {
        let last_ms = state.read(|view| atoll_metadata::read::last_time_ms(view))?.map_err(StorageError::from)?;
        self.observe(last_ms);
        Ok(())
    }

    /// Learns the stamp of an entry that another leader may have made.
    pub(crate) fn observe(&self, stamp_ms: u64) {
        let mut last = self.last.lock();
        if stamp_ms > last.stamp_ms {
            *last = Last { stamp_ms, at: self.clock.monotonic() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default)]
    struct Hands {
        wall_ms: AtomicU64,
        monotonic_ms: AtomicU64,
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_stop_leader_time() {
        let hands = Arc::new(Hands::default());
        hands.wall_ms.store(1_000_000, Ordering::Relaxed);
        let stamper = Stamper::new(hands.clone());
        assert_eq!(stamper.stamp(), 1_000_000);
        hands.wall_ms.store(5_000, Ordering::Relaxed);
        hands.monotonic_ms.store(250, Ordering::Relaxed);
        assert_eq!(stamper.stamp(), 1_000_250);
        stamper.observe(2_000_000);
        hands.monotonic_ms.store(300, Ordering::Relaxed);
        assert_eq!(stamper.stamp(), 2_000_050);
    }

    proptest! {
        #[test]
        fn stamps_never_go_back_and_never_run_slow(steps in prop::collection::vec((any::<u32>(), 0_u64..10_000, any::<bool>()), 1..64)) {
            let hands = Arc::new(Hands::default());
            let stamper = Stamper::new(hands.clone());
            let mut last = 0;
            for (wall, passed, observe) in steps {
                hands.wall_ms.store(u64::from(wall), Ordering::Relaxed);
                hands.monotonic_ms.fetch_add(passed, Ordering::Relaxed);
                if observe {
                    stamper.observe(u64::from(wall));
                    last = last.max(u64::from(wall));
                    last = stamper.stamp().max(last);
                    continue;
                }
                let stamp = stamper.stamp();
                prop_assert!(stamp >= last + passed, "{stamp} after {last} and {passed} ms");
                prop_assert!(stamp >= u64::from(wall));
                last = stamp;
            }
        }
    }
}

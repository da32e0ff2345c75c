//! Whether anything goes wrong at the moment: some things are owed only while nothing does, and for a while has not.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long after a fault its traces may show: an election, what was applied late, connections that are made again.
pub(crate) const CALM_AFTER: Duration = Duration::from_secs(5);

/// The faults of a run.
pub(crate) struct Weather(Mutex<Faults>);

struct Faults {
    active: u64,
    begun: u64,
    /// When the last one ended.
    ended: Instant,
}

/// A fault, for as long as it goes on.
pub(crate) struct Storm<'a>(&'a Weather);

/// A time without faults. Two that are equal are the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calm(u64);

impl Weather {
    /// Nothing has gone wrong yet, but all begins.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Faults { active: 0, begun: 0, ended: Instant::now() }))
    }

    /// A fault begins, and goes on until what is returned is dropped.
    pub(crate) fn storm(&self) -> Storm<'_> {
        let mut faults = self.0.lock();
        faults.active += 1;
        faults.begun += 1;
        Storm(self)
    }

    /// The calm that is now, if the last fault is over for long enough.
    pub(crate) fn calm(&self) -> Option<Calm> {
        let faults = self.0.lock();
        (faults.active == 0 && faults.ended.elapsed() >= CALM_AFTER).then_some(Calm(faults.begun))
    }
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        let mut faults = self.0.0.lock();
        faults.active -= 1;
        faults.ended = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_calm_a_while_after_the_last_fault() {
        let weather = Weather::new();
        assert_eq!(weather.calm(), None, "all has just begun");
        tokio::time::sleep(CALM_AFTER).await;
        let first = weather.calm();
        assert!(first.is_some());
        let (one, other) = (weather.storm(), weather.storm());
        drop(one);
        tokio::time::sleep(CALM_AFTER).await;
        assert_eq!(weather.calm(), None, "the other goes on");
        drop(other);
        assert_eq!(weather.calm(), None, "its traces may show");
        tokio::time::sleep(CALM_AFTER).await;
        assert!(weather.calm().is_some() && weather.calm() != first);
    }
}

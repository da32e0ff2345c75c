//! Latencies of what is not measured by wrk.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Ten minutes: longer than anything may take here.
const MICROSECONDS_MAX: u64 = 600_000_000;

/// A histogram in microseconds, three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Latencies {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles { p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_that_was_added() {
        let (mut one, mut two) = (Latencies::new().unwrap(), Latencies::new().unwrap());
        (1..=50).for_each(|ms| one.record(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| two.record(Duration::from_millis(ms)));
        one.add(&two).unwrap();
        let Percentiles { p50_ms, p99_ms } = one.percentiles();
        assert_eq!(one.count(), 100);
        assert!((p50_ms - 50.0).abs() < 0.1 && (p99_ms - 99.0).abs() < 0.1, "{p50_ms} {p99_ms}");
    }
}

//! What one direction of a link is like.

use std::time::Duration;

/// What one direction of a link is like; by default as fast as the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Condition {
    /// Nothing passes; what was sent waits, as TCP makes it wait, and passes when the link is healed.
    pub(crate) dropped: bool,
    /// How long each byte is under way.
    pub(crate) delay: Duration,
    /// At most so much is added to the delay, evenly spread; order is kept, as TCP keeps it.
    pub(crate) jitter: Duration,
    /// Bits in a second; 0 is no limit.
    pub(crate) bits_per_s: u64,
}

impl Condition {
    /// A direction on which nothing passes.
    pub(crate) fn cut() -> Self {
        Self { dropped: true, ..Self::default() }
    }

    /// A direction that is far: half of a round trip each.
    pub(crate) fn far(round_trip: Duration, jitter: Duration) -> Self {
        Self { delay: round_trip / 2, jitter, ..Self::default() }
    }

    /// A slow direction.
    pub(crate) fn slow(bits_per_s: u64) -> Self {
        Self { bits_per_s, ..Self::default() }
    }

    /// How long so many bytes take to be put on the line.
    pub(crate) fn transmission(&self, bytes: usize) -> Duration {
        if self.bits_per_s == 0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits_per_s as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_in_bits() {
        assert_eq!(Condition::slow(64_000).transmission(8_000), Duration::from_secs(1));
        assert_eq!(Condition::default().transmission(1 << 30), Duration::ZERO);
    }
}

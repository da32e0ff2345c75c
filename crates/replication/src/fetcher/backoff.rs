//! Blobs that could not be fetched: visible, and tried again for ever, ever less often.

use std::collections::HashMap;
use std::time::Duration;

use atoll_fault::planted;
use atoll_types::Digest;
use rand::RngExt;
use tokio::time::Instant;

/// Most blobs that are remembered as failing. One that is forgotten is tried again sooner: that costs a request.
const FAILING_MAX: usize = 16_384;

/// A blob that could not be fetched so far.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The blob.
    pub digest: Digest,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: String,
    /// When it is tried again.
    pub retry_at: Instant,
}

/// All that fail.
pub(crate) struct Failures {
    failing: HashMap<Digest, Failure>,
    min: Duration,
    max: Duration,
}

impl Failures {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { failing: HashMap::new(), min, max }
    }

    /// Whether a blob may be tried now.
    pub(crate) fn is_due(&self, digest: &Digest, now: Instant) -> bool {
        self.failing.get(digest).is_none_or(|f| f.retry_at <= now)
    }

    /// Whether a blob has failed, and was not fetched since.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.failing.contains_key(digest)
    }

    /// Notes a failure; the next try is after twice the last wait, more or less.
    pub(crate) fn failed(&mut self, digest: Digest, error: String, now: Instant) {
        let attempts = self.failing.get(&digest).map_or(0, |f| f.attempts) + 1;
        let wait = self.min.saturating_mul(1 << (attempts - 1).min(20)).min(self.max);
        let wait = if planted!("failed_fetch_given_up") { Duration::from_secs(86_400) } else { wait };
        let retry_at = now + wait.mul_f64(rand::rng().random_range(0.75..=1.25));
        if self.failing.len() >= FAILING_MAX && !self.failing.contains_key(&digest) {
            self.forget_one();
        }
        self.failing.insert(digest, Failure { digest, attempts, error, retry_at });
    }

    /// Forgets a blob that was fetched, or is not wanted any more.
    pub(crate) fn succeeded(&mut self, digest: &Digest) {
        self.failing.remove(digest);
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.failing.values().map(|f| f.retry_at).filter(|at| *at > now).min()
    }

    /// All that fail, those that fail longest first.
    pub(crate) fn list(&self) -> Vec<Failure> {
        let mut all: Vec<_> = self.failing.values().cloned().collect();
        all.sort_by(|a, b| b.attempts.cmp(&a.attempts).then(a.digest.cmp(&b.digest)));
        all
    }

    fn forget_one(&mut self) {
        let first = self.failing.values().min_by_key(|f| f.retry_at).map(|f| f.digest);
        if let Some(digest) = first {
            self.failing.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_end_with_success() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(30));
        let (mut failures, digest, now) = (Failures::new(min, max), Digest::sha256(b"x"), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..40 {
            failures.failed(digest, "no".into(), now);
            waits.push(failures.next_due(now).unwrap() - now);
            assert!(!failures.is_due(&digest, now));
        }
        assert!(waits[0] >= min.mul_f64(0.75) && waits[0] <= min.mul_f64(1.25), "{waits:?}");
        assert!(waits[39] >= max.mul_f64(0.75) && waits.iter().all(|w| *w <= max.mul_f64(1.25)), "{waits:?}");
        assert_eq!(failures.list()[0].attempts, 40);
        failures.succeeded(&digest);
        assert!(failures.is_due(&digest, now) && failures.list().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut failures = Failures::new(Duration::from_millis(1), Duration::from_secs(1));
        for i in 0..FAILING_MAX + 10 {
            failures.failed(Digest::sha256(&i.to_le_bytes()), "no".into(), Instant::now());
        }
        assert_eq!(failures.list().len(), FAILING_MAX);
    }
}

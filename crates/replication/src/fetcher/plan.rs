//! Which wanted blobs to start next. Pure: state in, a choice out.

use std::collections::HashMap;

use atoll_metadata::read::Wanted;
use atoll_types::Digest;
use tokio::time::Instant;

use super::backoff::Failures;
use crate::FetcherOptions;

/// Fills free slots from the queue, oldest first.
pub(crate) struct Plan<'a> {
    options: &'a FetcherOptions,
    prospects: Prospects<'a>,
    /// What the disks have to spare, without what the blobs that are fetched already have written.
    spare_bytes: u64,
    now: Instant,
    /// What is fetched already, with what is chosen.
    taken: HashMap<Digest, Taken>,
    chosen: Vec<Wanted>,
}

/// What speaks against blobs.
#[derive(Clone, Copy)]
pub(crate) struct Prospects<'a> {
    pub(crate) failures: &'a Failures,
    /// Whether nobody who answers has a blob.
    pub(crate) is_out_of_reach: &'a dyn Fn(&Digest) -> bool,
}

impl Prospects<'_> {
    /// Whether a blob will probably fail.
    fn are_bad(&self, digest: &Digest) -> bool {
        self.failures.has(digest) || (self.is_out_of_reach)(digest)
    }
}

/// What takes a slot.
#[derive(Clone, Copy)]
struct Taken {
    size: u64,
    is_unlikely: bool,
}

impl<'a> Plan<'a> {
    /// A plan beside what is being fetched.
    pub(crate) fn new(
        options: &'a FetcherOptions,
        prospects: Prospects<'a>,
        spare_bytes: u64,
        fetching: &HashMap<Digest, u64>,
        now: Instant,
    ) -> Self {
        let taken = fetching.iter().map(|(digest, size)| {
            let is_unlikely = prospects.are_bad(digest);
            (*digest, Taken { size: *size, is_unlikely })
        });
        Self { options, prospects, spare_bytes, now, taken: taken.collect(), chosen: Vec::new() }
    }

    /// Whether all slots are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.taken.len() >= self.options.concurrency
    }

    /// Takes what fits of a page of the queue.
    pub(crate) fn offer(&mut self, page: &[Wanted]) {
        for wanted in page {
            if self.is_full() {
                return;
            }
            if !self.fits(wanted) {
                continue;
            }
            let is_unlikely = self.prospects.are_bad(&wanted.digest);
            if !is_unlikely || self.has_slot_for_unlikely() {
                self.taken.insert(wanted.digest, Taken { size: wanted.size, is_unlikely });
                self.chosen.push(*wanted);
            }
        }
    }

    /// What to start.
    pub(crate) fn chosen(self) -> Vec<Wanted> {
        self.chosen
    }

    /// Whether a blob that will probably fail may have a slot. Half of them are for others: what nobody can send, all that
    /// a lost region alone had, must not keep waiting what somebody can.
    fn has_slot_for_unlikely(&self) -> bool {
        let unlikely = self.taken.values().filter(|taken| taken.is_unlikely).count();
        unlikely < (self.options.concurrency / 2).max(1)
    }

    fn fits(&self, wanted: &Wanted) -> bool {
        !self.taken.contains_key(&wanted.digest)
            && self.prospects.failures.is_due(&wanted.digest, self.now)
            && (!self.is_large(wanted.size) || self.has_slot_for_large(wanted.size))
    }

    fn is_large(&self, size: u64) -> bool {
        size >= self.options.large_bytes
    }

    /// Whether a large blob may have a slot. Where there is little room they come one by one, or each would take from the
    /// others what it needs, as a spool and as a copy, and none would ever be there.
    fn has_slot_for_large(&self, size: u64) -> bool {
        let large: Vec<u64> = self.taken.values().map(|taken| taken.size).filter(|size| self.is_large(*size)).collect();
        let all = large.iter().fold(size, |sum, size| sum.saturating_add(*size));
        large.is_empty() || (large.len() < self.options.large_max && all.saturating_mul(2) <= self.spare_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_types::Revision;
    use proptest::prelude::*;

    fn wanted(i: u64, size: u64) -> Wanted {
        Wanted { revision: Revision(i), digest: Digest::sha256(&i.to_le_bytes()), size, since_ms: i }
    }

    #[test]
    fn what_failed_leaves_half_of_the_slots_to_the_rest() {
        let (options, now) = (FetcherOptions::default(), Instant::now());
        let queue: Vec<_> = (0..500).map(|i| wanted(i, 1)).collect();
        let mut failures = Failures::new(options.backoff_min, options.backoff_max);
        for wanted in &queue[..400] {
            failures.failed(wanted.digest, "no".into(), now);
        }
        let prospects = Prospects { failures: &failures, is_out_of_reach: &|_| false };
        let mut plan = Plan::new(&options, prospects, u64::MAX, &HashMap::new(), now + options.backoff_max);
        queue.chunks(64).for_each(|page| plan.offer(page));
        let chosen = plan.chosen();
        let again = chosen.iter().filter(|w| failures.has(&w.digest)).count();
        assert_eq!((again, chosen.len()), (options.concurrency / 2, options.concurrency));
    }

    #[test]
    fn what_a_lost_region_alone_has_leaves_half_of_the_slots_to_the_rest_before_it_has_failed() {
        let (options, now) = (FetcherOptions::default(), Instant::now());
        let queue: Vec<_> = (0..500).map(|i| wanted(i, 1)).collect();
        let lost: std::collections::HashSet<_> = queue[..400].iter().map(|w| w.digest).collect();
        let failures = Failures::new(options.backoff_min, options.backoff_max);
        let is_lost = |digest: &Digest| lost.contains(digest);
        let busy: HashMap<_, _> = queue[..1].iter().map(|w| (w.digest, w.size)).collect();
        let prospects = Prospects { failures: &failures, is_out_of_reach: &is_lost };
        let mut plan = Plan::new(&options, prospects, u64::MAX, &busy, now);
        queue.chunks(64).for_each(|page| plan.offer(page));
        let chosen = plan.chosen();
        let unlikely = chosen.iter().filter(|w| is_lost(&w.digest)).count();
        assert_eq!((unlikely + 1, chosen.len() + 1), (options.concurrency / 2, options.concurrency));
    }

    #[test]
    fn where_there_is_little_room_large_blobs_come_one_by_one_and_small_ones_beside_them() {
        let (options, now, mib) = (FetcherOptions::default(), Instant::now(), 1 << 20);
        let failures = Failures::new(options.backoff_min, options.backoff_max);
        let prospects = Prospects { failures: &failures, is_out_of_reach: &|_| false };
        let queue = [wanted(1, 100 * mib), wanted(2, 100 * mib), wanted(3, mib), wanted(4, 100 * mib)];
        for (spare, want) in [(0, vec![1, 3]), (399, vec![1, 3]), (400, vec![1, 2, 3]), (600, vec![1, 2, 3, 4])] {
            let mut plan = Plan::new(&options, prospects, spare * mib, &HashMap::new(), now);
            plan.offer(&queue);
            assert_eq!(plan.chosen().iter().map(|w| w.revision.0).collect::<Vec<_>>(), want, "{spare} MiB to spare");
        }
    }

    proptest! {
        #[test]
        fn no_bound_is_passed_and_nothing_that_fits_is_left(
            sizes in proptest::collection::vec(prop_oneof![1..1_000u64, 32u64 << 20..1 << 30], 0..40),
            fetching in 0..10usize,
            failing in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let (options, now) = (FetcherOptions::default(), Instant::now());
            let queue: Vec<_> = sizes.iter().enumerate().map(|(i, s)| wanted(i as u64, *s)).collect();
            let mut failures = Failures::new(options.backoff_min, options.backoff_max);
            for (wanted, _) in queue.iter().zip(&failing).filter(|(_, fails)| **fails) {
                failures.failed(wanted.digest, "no".into(), now);
            }
            let busy: HashMap<_, _> = queue.iter().take(fetching.min(8)).map(|w| (w.digest, w.size)).collect();
            let prospects = Prospects { failures: &failures, is_out_of_reach: &|_| false };
            let mut plan = Plan::new(&options, prospects, u64::MAX, &busy, now);
            for page in queue.chunks(7) {
                plan.offer(page);
            }
            let chosen = plan.chosen();
            prop_assert!(chosen.iter().all(|w| !busy.contains_key(&w.digest) && failures.is_due(&w.digest, now)));
            prop_assert!(busy.len() + chosen.len() <= options.concurrency);
            let large = |size: u64| size >= options.large_bytes;
            let larges = chosen.iter().filter(|w| large(w.size)).count() + busy.values().filter(|s| large(**s)).count();
            prop_assert!(chosen.iter().all(|w| !large(w.size)) || larges <= options.large_max);
            let left = queue.iter().filter(|w| !busy.contains_key(&w.digest) && failures.is_due(&w.digest, now) && !chosen.contains(w));
            for wanted in left {
                let full = busy.len() + chosen.len() == options.concurrency;
                prop_assert!(full || (large(wanted.size) && larges >= options.large_max), "{wanted:?} was left");
            }
        }
    }
}

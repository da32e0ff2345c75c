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
    has_hope: bool,
}

/// What is to be expected of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    Good,
    /// It has failed before.
    Failing,
    /// Nobody who answers has the blob.
    OutOfReach,
}

/// What speaks against blobs.
#[derive(Clone, Copy)]
pub(crate) struct Prospects<'a> {
    pub(crate) failures: &'a Failures,
    /// Whether nobody who answers has a blob.
    pub(crate) is_out_of_reach: &'a dyn Fn(&Digest) -> bool,
}

impl Prospects<'_> {
    fn of(&self, digest: &Digest) -> Outlook {
        if (self.is_out_of_reach)(digest) {
            Outlook::OutOfReach
        } else if self.failures.has(digest) {
            Outlook::Failing
        } else {
            Outlook::Good
        }
    }
}

/// What takes a slot.
#[derive(Clone, Copy)]
struct Taken {
    size: u64,
    outlook: Outlook,
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
            let outlook = prospects.of(digest);
            (*digest, Taken { size: *size, outlook })
        });
        Self { options, prospects, spare_bytes, now, taken: taken.collect(), chosen: Vec::new(), has_hope: false }
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
            if !self.may_start(wanted) || self.is_passed_by(&wanted.digest) {
                continue;
            }
            let taken = Taken { size: wanted.size, outlook: self.prospects.of(&wanted.digest) };
            if self.has_slot_for(taken.outlook) && self.has_room_for(taken) {
                self.has_hope |= taken.outlook == Outlook::Good;
                self.taken.insert(wanted.digest, taken);
                self.chosen.push(*wanted);
            }
        }
    }

    /// Whether anything that was chosen will probably come.
    pub(crate) const fn has_hope(&self) -> bool {
        self.has_hope
    }

    /// What to start.
    pub(crate) fn chosen(self) -> Vec<Wanted> {
        self.chosen
    }

    fn may_start(&self, wanted: &Wanted) -> bool {
        !self.taken.contains_key(&wanted.digest) && self.prospects.failures.is_due(&wanted.digest, self.now)
    }

    /// Whether its failure alone says that no slot is left for it: no look at who has it is needed then.
    fn is_passed_by(&self, digest: &Digest) -> bool {
        self.prospects.failures.has(digest) && !self.has_slot_for(Outlook::Failing)
    }

    /// Whether a slot is left for what has such an outlook. Half of them are for what will probably come: what nobody can
    /// send, all that a lost region alone had, must not keep waiting what somebody can. Nor may it keep waiting what has
    /// failed once: it has a quarter.
    fn has_slot_for(&self, outlook: Outlook) -> bool {
        let bad = self.taken.values().filter(|taken| taken.outlook != Outlook::Good).count();
        let out_of_reach = self.taken.values().filter(|taken| taken.outlook == Outlook::OutOfReach).count();
        let is_within = |count: usize, share: usize| count < (self.options.concurrency / share).max(1);
        match outlook {
            Outlook::Good => true,
            Outlook::Failing => is_within(bad, 2),
            Outlook::OutOfReach => is_within(bad, 2) && is_within(out_of_reach, 4),
        }
    }

    fn is_large(&self, size: u64) -> bool {
        size >= self.options.large_bytes
    }

    /// Whether there is room for a blob beside the others that may come: large ones beside large ones, so that no small
    /// one has to wait for them. Where there is little room they come one by one, or each would take from the others what
    /// it needs, as a spool and as a copy, and none would ever be there. What nobody can send takes none. Half of the
    /// slots of large ones, too, are for what will probably come.
    fn has_room_for(&self, one: Taken) -> bool {
        let is_large = self.is_large(one.size);
        let alike = || self.taken.values().filter(|taken| self.is_large(taken.size) == is_large);
        if is_large {
            let all = alike().count();
            let bad = alike().filter(|taken| taken.outlook != Outlook::Good).count();
            let is_bad = one.outlook != Outlook::Good;
            if all >= self.options.large_max || (is_bad && bad >= (self.options.large_max / 2).max(1)) {
                return false;
            }
        }
        let may_come = || alike().filter(|taken| taken.outlook != Outlook::OutOfReach);
        let sum = may_come().fold(one.size, |sum, taken| sum.saturating_add(taken.size));
        may_come().next().is_none() || sum.saturating_mul(2) <= self.spare_bytes
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
    fn what_a_lost_region_alone_has_leaves_three_quarters_of_the_slots_to_the_rest() {
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
        assert_eq!((unlikely + 1, chosen.len() + 1), (options.concurrency / 4, options.concurrency));
    }

    #[test]
    fn what_a_lost_region_alone_has_keeps_neither_large_blobs_nor_failed_ones_waiting() {
        let (options, now) = (FetcherOptions::default(), Instant::now());
        let queue: Vec<_> = (0..500).map(|i| wanted(i, options.large_bytes)).collect();
        let (lost, rest) = queue.split_at(400);
        let mut failures = Failures::new(options.backoff_min, options.backoff_max);
        queue.iter().for_each(|w| failures.failed(w.digest, "no".into(), now));
        failures.succeeded(&rest[0].digest);
        let is_lost = |digest: &Digest| lost.iter().any(|w| w.digest == *digest);
        let prospects = Prospects { failures: &failures, is_out_of_reach: &is_lost };
        let later = now + options.backoff_max * 2;
        let mut plan = Plan::new(&options, prospects, u64::MAX, &HashMap::new(), later);
        queue.chunks(64).for_each(|page| plan.offer(page));
        let chosen = plan.chosen();
        assert_eq!(chosen.iter().filter(|w| is_lost(&w.digest)).count(), 2, "half of those for large ones");
        assert!(chosen.contains(&rest[0]), "what will probably come does");
        let small: Vec<_> = queue.iter().map(|w| Wanted { size: 1, ..*w }).collect();
        let mut plan = Plan::new(&options, prospects, u64::MAX, &HashMap::new(), later);
        small.chunks(64).for_each(|page| plan.offer(page));
        let chosen = plan.chosen();
        let failing = chosen.iter().filter(|w| !is_lost(&w.digest) && failures.has(&w.digest)).count();
        assert_eq!((failing, chosen.len()), (2, 5), "a quarter for each, and the one that will come: {chosen:?}");
    }

    #[test]
    fn where_there_is_little_room_large_blobs_come_one_by_one_and_small_ones_beside_them() {
        let (options, now, mib) = (FetcherOptions::default(), Instant::now(), 1 << 20);
        let queue = [wanted(1, 100 * mib), wanted(2, 100 * mib), wanted(3, mib), wanted(4, 100 * mib)];
        let none = Failures::new(options.backoff_min, options.backoff_max);
        let mut two = Failures::new(options.backoff_min, options.backoff_max);
        queue[..2].iter().for_each(|w| two.failed(w.digest, "no".into(), now));
        let later = now + options.backoff_max * 2;
        for failures in [none, two] {
            let prospects = Prospects { failures: &failures, is_out_of_reach: &|_| false };
            for (spare, want) in [(0, vec![1, 3]), (399, vec![1, 3]), (400, vec![1, 2, 3]), (600, vec![1, 2, 3, 4])] {
                let mut plan = Plan::new(&options, prospects, spare * mib, &HashMap::new(), later);
                plan.offer(&queue);
                assert_eq!(
                    plan.chosen().iter().map(|w| w.revision.0).collect::<Vec<_>>(),
                    want,
                    "{spare} MiB to spare"
                );
            }
        }
    }

    #[test]
    fn what_nobody_can_send_takes_no_room_from_the_rest() {
        let (options, now, mib) = (FetcherOptions::default(), Instant::now(), 1 << 20);
        let failures = Failures::new(options.backoff_min, options.backoff_max);
        let queue = [wanted(1, 100 * mib), wanted(2, 100 * mib), wanted(3, 100 * mib)];
        let prospects = Prospects { failures: &failures, is_out_of_reach: &|digest| *digest == queue[0].digest };
        let mut plan = Plan::new(&options, prospects, 200 * mib, &HashMap::new(), now);
        plan.offer(&queue);
        assert_eq!(plan.chosen().iter().map(|w| w.revision.0).collect::<Vec<_>>(), [1, 2]);
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

//! What a run promised, against what it did: one that did less is invalid, not green.

use std::collections::BTreeMap;

use super::Run;
use crate::faults::{Fault, Fired};
use crate::history::{Kind, Operation, Outcome};

/// Acknowledged writes of each round, below which a round proves nothing.
const ACKNOWLEDGED_MIN: u64 = 40;

/// A refusal that came so soon was no more than that: nobody listened, or the node knew that it could not.
const AT_ONCE_US: u64 = 50_000;

/// In so many firings each kind of operation has to meet a fault once: clients hang while nobody leads.
const FIRINGS_PER_KIND: u64 = 4;

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) rounds: u32,
    pub(crate) fired: BTreeMap<Fault, u64>,
    /// Operations that were under way while a fault was.
    pub(crate) against: BTreeMap<(Fault, Kind), u64>,
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Rounds in which too few writes were acknowledged.
    pub(crate) idle_rounds: Vec<u32>,
}

impl Counts {
    /// Takes in a round.
    pub(crate) fn add(&mut self, operations: &[Operation], fired: &[Fired]) {
        self.rounds += 1;
        for fault in fired {
            *self.fired.entry(fault.fault).or_default() += 1;
            // One that was refused at once has met nothing but a refusal.
            let is_refused = |o: &Operation| o.outcome == Outcome::Failed && o.span.end - o.span.start < AT_ONCE_US;
            let tried = operations.iter().filter(|o| !is_refused(o));
            for operation in tried.filter(|o| o.span.start < fault.end && o.span.end > fault.start) {
                *self.against.entry((fault.fault, operation.kind)).or_default() += 1;
            }
        }
        let mut acknowledged = 0;
        for operation in operations {
            let name = match operation.outcome {
                Outcome::Ok => "ok",
                Outcome::Failed => "failed",
                Outcome::Unknown => "unknown",
            };
            *self.outcomes.entry(name).or_default() += 1;
            acknowledged += u64::from(operation.outcome == Outcome::Ok && operation.kind.is_write());
        }
        if acknowledged < ACKNOWLEDGED_MIN {
            self.idle_rounds.push(self.rounds);
        }
    }

    /// What the plan asks for and was not done: every fault as often as planned, and against every kind of operation
    /// at least once in four times.
    pub(crate) fn shortfalls(&self, run: &Run, rounds: u32) -> Vec<String> {
        let mut short = Vec::new();
        for planned in run.plan {
            let due = u64::from(planned.times * rounds.div_ceil(planned.every));
            let fired = self.fired.get(&planned.fault).copied().unwrap_or(0);
            if fired < due {
                short.push(format!("{} fired {fired} times, the plan says {due}", planned.fault.name()));
            }
            short.extend(
                Kind::ALL
                    .into_iter()
                    .filter_map(|kind| self.too_few(planned.fault, kind, due.div_ceil(FIRINGS_PER_KIND))),
            );
        }
        short.extend(
            self.idle_rounds
                .iter()
                .map(|r| format!("round {r}: fewer than {ACKNOWLEDGED_MIN} writes were acknowledged")),
        );
        short
    }

    fn too_few(&self, fault: Fault, kind: Kind, due: u64) -> Option<String> {
        let count = self.against.get(&(fault, kind)).copied().unwrap_or(0);
        (count < due).then(|| format!("{} met {} {count} times, the plan says {due}", fault.name(), kind.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Span;
    use crate::runs::find;

    fn operations(count: usize) -> Vec<Operation> {
        let of = |kind| Operation { kind, span: Span { node: 0, start: 5, end: 8 }, outcome: Outcome::Ok };
        (0..count).flat_map(|_| Kind::ALL.map(of)).collect()
    }

    #[test]
    fn a_run_that_did_less_than_its_plan_is_told() {
        let run = find("wiped").unwrap();
        let fired = |start, end| vec![Fired { fault: Fault::Wiped, start, end }];
        let mut counts = Counts::default();
        counts.add(&operations(10), &fired(6, 7));
        assert_eq!(counts.shortfalls(run, 1), Vec::<String>::new());
        assert_eq!(counts.shortfalls(run, 20).len(), 1, "20 of the fault, and 5 of each kind");
        assert_eq!(counts.shortfalls(run, 44).len(), 15, "44 of the fault, and 11 of each kind");
        let mut refused = Counts::default();
        let failed = operations(10).into_iter().map(|o| Operation { outcome: Outcome::Failed, ..o });
        let later = |o: Operation| Operation { span: Span { node: 0, start: 9, end: 10 }, ..o };
        refused.add(&failed.chain(operations(10).into_iter().map(later)).collect::<Vec<_>>(), &fired(6, 7));
        assert_eq!(refused.shortfalls(run, 1).len(), Kind::ALL.len(), "what was refused has met nothing");
        let mut apart = Counts::default();
        apart.add(&operations(10), &fired(8, 9));
        assert_eq!(apart.shortfalls(run, 1).len(), Kind::ALL.len(), "it met nothing");
        let mut idle = Counts::default();
        idle.add(&operations(1), &fired(6, 7));
        assert_eq!(idle.shortfalls(run, 1).len(), 1, "too little was done");
    }
}

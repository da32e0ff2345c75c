//! What a run promised, against what it did: one that did less is invalid, not green.

use std::collections::BTreeMap;

use super::{Planned, Run};
use crate::faults::{Fault, Firing, Firings, Kinds};
use crate::history::{Kind, Operation, Outcome};

/// Acknowledged writes of each round, below which a round proves nothing.
const ACKNOWLEDGED_MIN: u64 = 40;

/// A refusal that came so soon was no more than that: nobody listened, or the node knew that it could not.
const AT_ONCE_US: u64 = 50_000;

/// In so many firings each kind of operation has to meet a fault once, at whatever node: clients hang while nobody leads.
const FIRINGS_PER_KIND: u64 = 4;

/// In so many firings each kind of write has to meet a fault once at a node that it touched. A node that is killed refuses
/// at once: it is met by the three or four operations that are under way there just then, most of them pushes.
const FIRINGS_PER_WRITE_THERE: u64 = 50;

/// Operations that were under way while a fault was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Met {
    /// At any node.
    pub(crate) anywhere: u64,
    /// At a node that the fault touched.
    pub(crate) there: u64,
}

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) rounds: u32,
    pub(crate) fired: BTreeMap<Fault, u64>,
    pub(crate) kinds: Kinds,
    against: BTreeMap<(Fault, Kind), Met>,
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Rounds in which too few writes were acknowledged.
    pub(crate) idle_rounds: Vec<u32>,
}

impl Counts {
    /// Takes in a round.
    pub(crate) fn add(&mut self, operations: &[Operation], fired: &Firings) {
        self.rounds += 1;
        fired.iter().for_each(|firing| self.add_firing(operations, firing));
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

    fn add_firing(&mut self, operations: &[Operation], firing: &Firing) {
        let fault = firing.fired.fault;
        *self.fired.entry(fault).or_default() += 1;
        // One that was refused at once has met nothing but a refusal.
        let is_refused = |o: &Operation| o.outcome == Outcome::Failed && o.span.end - o.span.start < AT_ONCE_US;
        for operation in operations.iter().filter(|o| !is_refused(o) && firing.is_during(&o.span)) {
            let met = self.against.entry((fault, operation.kind)).or_default();
            met.anywhere += 1;
            met.there += u64::from(firing.touches(operation.span.node));
        }
    }

    /// What of a kind has met a fault.
    pub(crate) fn met(&self, fault: Fault, kind: Kind) -> Met {
        self.against.get(&(fault, kind)).copied().unwrap_or_default()
    }

    /// What the plan asks for and was not done: every fault as often as planned, of each of its kinds once, and met by
    /// operations.
    pub(crate) fn shortfalls(&self, run: &Run, rounds: u32) -> Vec<String> {
        let mut short: Vec<String> = run.plan.iter().flat_map(|planned| self.shortfalls_of(planned, rounds)).collect();
        short.extend(
            self.idle_rounds
                .iter()
                .map(|r| format!("round {r}: fewer than {ACKNOWLEDGED_MIN} writes were acknowledged")),
        );
        short
    }

    fn shortfalls_of(&self, planned: &Planned, rounds: u32) -> Vec<String> {
        let (fault, due) = (planned.fault, u64::from(planned.times * rounds.div_ceil(planned.every)));
        let fired = self.fired.get(&fault).copied().unwrap_or(0);
        let too_often_missing =
            (fired < due).then(|| format!("{} fired {fired} times, the plan says {due}", fault.name()));
        let kinds = fault.kinds();
        // Fewer firings than there are kinds cannot have had each.
        let missing = kinds.iter().filter(|kind| due >= kinds.len() as u64 && self.kinds.count(fault, kind) == 0);
        let missing = missing.map(|kind| format!("{} was never of the kind {kind}", fault.name()));
        let too_few = Kind::ALL.into_iter().filter_map(|kind| self.too_few(fault, kind, due));
        too_often_missing.into_iter().chain(missing).chain(too_few).chain(self.too_few_there(fault, due)).collect()
    }

    /// Each kind at least once in four firings, and each kind of write at a node that was touched once in fifty.
    fn too_few(&self, fault: Fault, kind: Kind, due: u64) -> Option<String> {
        let (met, name) = (self.met(fault, kind), fault.name());
        let (anywhere, there) = (due.div_ceil(FIRINGS_PER_KIND), due / FIRINGS_PER_WRITE_THERE);
        if met.anywhere < anywhere {
            return Some(format!("{name} met {} {} times, the plan says {anywhere}", kind.name(), met.anywhere));
        }
        (kind.is_write() && met.there < there).then(|| {
            format!("{name} met {} {} times at the nodes it touched, the plan says {there}", kind.name(), met.there)
        })
    }

    /// On average each firing is met by an operation at a node that it touched, of whatever kind.
    fn too_few_there(&self, fault: Fault, due: u64) -> Option<String> {
        let there: u64 = Kind::ALL.into_iter().map(|kind| self.met(fault, kind).there).sum();
        let name = fault.name();
        (there < due).then(|| format!("{name} met {there} operations at the nodes it touched, the plan says {due}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fired;
    use crate::history::Span;
    use crate::runs::find;

    fn operations(count: usize) -> Vec<Operation> {
        let of = |kind| Operation { kind, span: Span { node: 0, start: 5, end: 8 }, outcome: Outcome::Ok };
        (0..count).flat_map(|_| Kind::ALL.map(of)).collect()
    }

    fn fired(fault: Fault, start: u64, end: u64, nodes: [bool; 3]) -> Firings {
        let mut firings = Firings::default();
        firings.push_at(Fired { fault, start, end }, nodes);
        firings
    }

    fn wiped(start: u64, end: u64) -> Firings {
        fired(Fault::Wiped, start, end, [true, false, false])
    }

    #[test]
    fn a_run_that_did_less_than_its_plan_is_told() {
        let run = find("wiped").unwrap();
        let mut counts = Counts::default();
        counts.add(&operations(10), &wiped(6, 7));
        assert_eq!(counts.shortfalls(run, 1), Vec::<String>::new());
        assert_eq!(counts.shortfalls(run, 20).len(), 1, "20 of the fault, and 5 of each kind");
        assert_eq!(counts.shortfalls(run, 44).len(), 15, "44 of the fault, and 11 of each kind");
        let mut refused = Counts::default();
        let failed = operations(10).into_iter().map(|o| Operation { outcome: Outcome::Failed, ..o });
        let later = |o: Operation| Operation { span: Span { node: 0, start: 9, end: 10 }, ..o };
        refused.add(&failed.chain(operations(10).into_iter().map(later)).collect::<Vec<_>>(), &wiped(6, 7));
        assert_eq!(refused.shortfalls(run, 1).len(), Kind::ALL.len() + 1, "what was refused has met nothing");
        let mut apart = Counts::default();
        apart.add(&operations(10), &wiped(8, 9));
        assert_eq!(apart.shortfalls(run, 1).len(), Kind::ALL.len() + 1, "it met nothing");
        let mut idle = Counts::default();
        idle.add(&operations(1), &wiped(6, 7));
        assert_eq!(idle.shortfalls(run, 1).len(), 1, "too little was done");
    }

    #[test]
    fn operations_at_other_nodes_have_not_met_what_was_done_to_one() {
        let run = find("wiped").unwrap();
        let mut counts = Counts::default();
        counts.add(&operations(10), &fired(Fault::Wiped, 6, 7, [false, true, true]));
        assert_eq!(counts.met(Fault::Wiped, Kind::Push).anywhere, 10);
        assert_eq!(counts.met(Fault::Wiped, Kind::Push).there, 0);
        assert_eq!(counts.shortfalls(run, 1).len(), 1, "none of them was there");
        let mut once = Counts::default();
        once.add(&operations(20), &wiped(6, 7));
        (1..60).for_each(|_| once.add(&operations(20), &fired(Fault::Wiped, 6, 7, [false, false, true])));
        assert_eq!(once.shortfalls(run, 60), Vec::<String>::new(), "20 of each were there");
    }

    #[test]
    fn a_kind_of_a_fault_that_never_fired_is_told() {
        let run =
            Run { plan: &[Planned { fault: Fault::DamagedState, times: 2, every: 1 }], ..*find("damage").unwrap() };
        let mut counts = Counts::default();
        counts.add(&operations(10), &fired(Fault::DamagedState, 6, 7, [true; 3]));
        counts.add(&operations(10), &fired(Fault::DamagedState, 6, 7, [true; 3]));
        counts.kinds.add(Fault::DamagedState, "wal");
        assert_eq!(counts.shortfalls(&run, 1), ["damaged-state was never of the kind sst"]);
        counts.kinds.add(Fault::DamagedState, "sst");
        assert_eq!(counts.shortfalls(&run, 1), Vec::<String>::new());
    }
}

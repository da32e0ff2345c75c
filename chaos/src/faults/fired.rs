//! What fired: when, at which nodes, and of which kinds.

use std::collections::BTreeMap;

use super::Fault;
use crate::cluster::NODES;
use crate::history::{Micros, Span};

/// Which nodes.
pub(crate) type Nodes = [bool; NODES];

/// A fault that fired: when.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    pub(crate) fault: Fault,
    pub(crate) start: Micros,
    pub(crate) end: Micros,
}

/// A fault that fired, and the nodes that it touched: the one that it was done to, or both ends of a link.
#[derive(Clone, Debug)]
pub(crate) struct Firing {
    pub(crate) fired: Fired,
    nodes: Nodes,
}

impl Firing {
    /// Whether something was under way then, wherever.
    pub(crate) const fn is_during(&self, span: &Span) -> bool {
        span.start < self.fired.end && span.end > self.fired.start
    }

    /// Whether it was done to a node.
    pub(crate) fn touches(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|touched| *touched)
    }
}

/// All that fired in a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Firings(Vec<Firing>);

impl Firings {
    /// One that touched the whole cluster.
    pub(crate) fn push(&mut self, fired: Fired) {
        self.push_at(fired, [true; NODES]);
    }

    /// One that touched these nodes.
    pub(crate) fn push_at(&mut self, fired: Fired, nodes: Nodes) {
        self.0.push(Firing { fired, nodes });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Firing> {
        self.0.iter()
    }
}

/// How often each kind of each fault fired in the rounds so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(BTreeMap<(Fault, &'static str), u64>);

impl Kinds {
    pub(crate) fn add(&mut self, fault: Fault, kind: &'static str) {
        *self.0.entry((fault, kind)).or_default() += 1;
    }

    pub(crate) fn count(&self, fault: Fault, kind: &'static str) -> u64 {
        self.0.get(&(fault, kind)).copied().unwrap_or(0)
    }

    /// The kind that is due next: of those that fired least, in this firing's kinds, too, the first.
    pub(super) fn least(&self, fault: Fault, among: &[&'static str], now: &[&'static str]) -> Option<&'static str> {
        let so_far =
            |kind: &'static str| self.count(fault, kind) + now.iter().filter(|other| **other == kind).count() as u64;
        among.iter().copied().min_by_key(|kind| so_far(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_that_fired_least_is_due() {
        let mut kinds = Kinds::default();
        let due = |kinds: &Kinds, now: &[&'static str]| kinds.least(Fault::DamagedState, &["wal", "sst"], now);
        assert_eq!(due(&kinds, &[]), Some("wal"));
        assert_eq!(due(&kinds, &["wal"]), Some("sst"), "this firing counts, too");
        kinds.add(Fault::DamagedLog, "wal");
        assert_eq!(due(&kinds, &[]), Some("wal"), "another fault's kinds do not");
        kinds.add(Fault::DamagedState, "wal");
        assert_eq!(due(&kinds, &[]), Some("sst"));
        assert_eq!(kinds.count(Fault::DamagedState, "wal"), 1);
    }

    #[test]
    fn a_firing_knows_its_time_and_its_nodes() {
        let mut firings = Firings::default();
        let fired = Fired { fault: Fault::Kill, start: 5, end: 8 };
        firings.push_at(fired.clone(), [false, true, false]);
        firings.push(fired);
        let span = |start, end| Span { node: 0, start, end };
        let touched: Vec<Vec<bool>> = firings.iter().map(|f| (0..NODES).map(|n| f.touches(n)).collect()).collect();
        assert_eq!(touched, [vec![false, true, false], vec![true; NODES]]);
        let during: Vec<bool> =
            [span(1, 5), span(1, 6), span(7, 9), span(8, 9)].iter().map(|s| firings.0[0].is_during(s)).collect();
        assert_eq!(during, [false, true, true, false]);
    }
}

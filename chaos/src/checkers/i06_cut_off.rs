//! I6: a cut-off region serves what it holds; its writes fail at once, and none is acknowledged.

use super::PROBES_UNSEEN;
use crate::faults::Fault;
use crate::history::{Brought, History, Probe};

/// "At once": far below any time-out, far above what a busy machine takes.
const AT_ONCE_US: u64 = 2_000_000;

/// Probes are made while a node knows that it is cut off, of what it holds. Where a node was cut off and there are none,
/// nothing is proved.
pub(super) fn check(history: &History) -> Vec<String> {
    let found = history.probes.iter().filter_map(|probe| fault(probe).map(|why| told(probe, why)));
    found.chain(is_unseen(history).then(|| PROBES_UNSEEN.to_owned())).collect()
}

fn is_unseen(history: &History) -> bool {
    let probed = |write| history.probes.iter().any(|probe| probe.write == write);
    history.faults.contains(&Fault::CutOff.name()) && !(probed(true) && probed(false))
}

fn fault(probe: &Probe) -> Option<&'static str> {
    let took = probe.span.end - probe.span.start;
    match probe.write {
        true if (200..300).contains(&probe.status) => Some("a write was acknowledged"),
        true if probe.status != 503 => Some("a write was not refused with 503"),
        true if took > AT_ONCE_US => Some("a write was not refused at once"),
        true => None,
        false if probe.brought != Some(Brought::Right) => Some("what it holds was not served"),
        false if !probe.warned => Some("it did not say that it is cut off"),
        false => None,
    }
}

fn told(probe: &Probe, why: &str) -> String {
    let ms = (probe.span.end - probe.span.start) / 1000;
    format!("cut-off node {}: {why}: {} after {ms} ms: {}", probe.span.node, probe.status, probe.text)
}

#[cfg(test)]
mod tests {
    use super::super::sample::span;
    use super::*;

    fn found(write: bool, status: u16, ms: u64, brought: Option<Brought>, warned: bool) -> usize {
        let probe = Probe { span: span(0, ms * 1000), write, status, brought, warned, text: String::new() };
        check(&History { probes: vec![probe], ..History::default() }).len()
    }

    #[test]
    fn a_write_is_refused_at_once() {
        assert_eq!(found(true, 503, 5, None, true), 0);
        assert_eq!(found(true, 201, 5, None, true), 1);
        assert_eq!(found(true, 504, 5, None, true), 1);
        assert_eq!(found(true, 503, 5_000, None, true), 1);
    }

    #[test]
    fn a_read_is_right_and_says_so() {
        assert_eq!(found(false, 200, 5, Some(Brought::Right), true), 0);
        assert_eq!(found(false, 200, 5, Some(Brought::Right), false), 1);
        assert_eq!(found(false, 503, 5, Some(Brought::Nothing), true), 1);
    }

    #[test]
    fn a_node_that_was_cut_off_and_not_probed_proves_nothing() {
        let probe = |write| Probe {
            span: span(0, 1),
            write,
            status: if write { 503 } else { 200 },
            brought: Some(Brought::Right),
            warned: true,
            text: String::new(),
        };
        let found = |fault: Fault, probes: &[Probe]| {
            check(&History { faults: vec![fault.name()], probes: probes.to_vec(), ..History::default() })
        };
        assert_eq!(found(Fault::CutOff, &[]), [PROBES_UNSEEN]);
        assert_eq!(found(Fault::CutOff, &[probe(true)]), [PROBES_UNSEEN], "nothing was pulled");
        assert_eq!(found(Fault::CutOff, &[probe(false)]), [PROBES_UNSEEN], "nothing was written");
        assert!(found(Fault::CutOff, &[probe(true), probe(false)]).is_empty());
        assert!(found(Fault::Kill, &[]).is_empty(), "none is expected");
    }
}

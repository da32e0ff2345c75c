//! Whether a history of one register is linearizable: the algorithm of Wing and Gong with Lowe's memory of
//! configurations. An operation whose outcome is unknown may take effect at any time after its start.

use std::collections::HashSet;

use crate::history::{TagAction, TagAnswer};

/// An operation on the register.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) start: u64,
    /// `None`: it may take effect at any later time, or never.
    pub(super) end: Option<u64>,
    pub(super) action: TagAction,
    pub(super) answer: TagAnswer,
}

/// Whether there is an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    Not,
    /// The search was given up: the history is too tangled.
    Undecided,
}

/// Configurations that are looked at before a search is given up.
const STEPS_MAX: usize = 3_000_000;

/// Looks for an order of the calls that a register which is absent at first could have had.
pub(super) fn check(calls: &[Call]) -> Verdict {
    // Who explains a history without the unknown puts that nobody saw has explained it with them, too: they may come
    // last. Most searches end here.
    let seen: Vec<Call> = calls.iter().filter(|c| c.end.is_some() || may_matter(c, calls)).cloned().collect();
    match Search::new(&seen).run() {
        Verdict::Not if seen.len() < calls.len() => Search::new(calls).run(),
        verdict => verdict,
    }
}

/// Whether an unknown write was seen by anybody.
fn may_matter(call: &Call, calls: &[Call]) -> bool {
    let (TagAction::Put { digest } | TagAction::Cas { digest, .. }) = &call.action else { return true };
    let sees = |other: &Call| {
        let read = matches!(&other.answer, TagAnswer::Points { digest: seen } if seen == digest);
        let expected = matches!(&other.action, TagAction::Cas { expected: Some(e), .. } if e == digest);
        let deleted = matches!(&other.action, TagAction::DeleteManifest { digest: d } if d == digest);
        read || expected || deleted
    };
    calls.iter().any(sees)
}

type State = Option<String>;

/// The state after a call, or `None` if the call could not have had its answer in this state.
fn apply(state: &State, call: &Call) -> Option<State> {
    use TagAnswer as A;
    let moved = |digest: &String| Some(Some(digest.clone()));
    match (&call.action, &call.answer) {
        (TagAction::Read, A::Points { digest }) => (state.as_ref() == Some(digest)).then(|| state.clone()),
        (TagAction::Read, A::Absent) => state.is_none().then_some(None),
        (TagAction::Put { digest }, A::Done | A::Unknown) => moved(digest),
        (TagAction::Cas { expected, digest }, A::Done) => (state == expected).then(|| Some(digest.clone())),
        (TagAction::Cas { expected, .. }, A::Conflict) => (state != expected).then(|| state.clone()),
        (TagAction::Cas { expected, digest }, A::Unknown) => {
            if state == expected {
                moved(digest)
            } else {
                Some(state.clone())
            }
        }
        (TagAction::Delete, A::Done) => state.is_some().then_some(None),
        (TagAction::Delete, A::Absent) => state.is_none().then_some(None),
        (TagAction::Delete, A::Unknown) => Some(None),
        (TagAction::DeleteManifest { digest }, _) => {
            Some(if state.as_ref() == Some(digest) { None } else { state.clone() })
        }
        _ => Some(state.clone()),
    }
}

/// The start or the end of a call, in a list from which calls are taken out and put back.
struct Event {
    call: usize,
    is_start: bool,
    next: usize,
    previous: usize,
}

const HEAD: usize = 0;

struct Search<'a> {
    calls: &'a [Call],
    events: Vec<Event>,
    /// By call: its two events.
    places: Vec<(usize, usize)>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let mut times: Vec<(u64, bool, usize)> = Vec::new();
        for (i, call) in calls.iter().enumerate() {
            times.push((call.start, true, i));
            times.push((call.end.map_or(u64::MAX, |end| end.max(call.start)), false, i));
        }
        // At equal times starts come first: such calls overlap.
        times.sort_by_key(|(time, is_start, _)| (*time, !is_start));
        let length = times.len();
        let link = |place: usize, call, is_start| Event {
            call,
            is_start,
            next: if place == length { HEAD } else { place + 1 },
            previous: place.saturating_sub(1),
        };
        let mut events = vec![link(HEAD, usize::MAX, false)];
        let mut places = vec![(0, 0); calls.len()];
        for (place, (_, is_start, call)) in (1..).zip(times) {
            events.push(link(place, call, is_start));
            if is_start { places[call].0 = place } else { places[call].1 = place }
        }
        events[HEAD].next = usize::from(length > 0);
        Self { calls, events, places }
    }

    fn run(mut self) -> Verdict {
        let mut state: State = None;
        let mut done = vec![0_u64; self.calls.len().div_ceil(64)];
        let mut known: HashSet<(Vec<u64>, State)> = HashSet::new();
        let mut trail: Vec<(usize, State)> = Vec::new();
        let mut at = self.events[HEAD].next;
        while self.events[HEAD].next != HEAD {
            if known.len() > STEPS_MAX {
                return Verdict::Undecided;
            }
            let Event { call, is_start, next, .. } = self.events[at];
            if is_start {
                let after = apply(&state, &self.calls[call]).filter(|after| {
                    flip(&mut done, call);
                    let is_new = known.insert((done.clone(), after.clone()));
                    if !is_new {
                        flip(&mut done, call);
                    }
                    is_new
                });
                at = match after {
                    Some(after) => {
                        trail.push((call, std::mem::replace(&mut state, after)));
                        self.take_out(call);
                        self.events[HEAD].next
                    }
                    None => next,
                };
            } else {
                let Some((call, before)) = trail.pop() else { return Verdict::Not };
                state = before;
                flip(&mut done, call);
                self.put_back(call);
                at = self.events[self.places[call].0].next;
            }
        }
        Verdict::Linearizable
    }

    fn take_out(&mut self, call: usize) {
        let (start, end) = self.places[call];
        for place in [start, end] {
            let Event { next, previous, .. } = self.events[place];
            self.events[previous].next = next;
            self.events[next].previous = previous;
        }
    }

    fn put_back(&mut self, call: usize) {
        let (start, end) = self.places[call];
        for place in [end, start] {
            let Event { next, previous, .. } = self.events[place];
            self.events[previous].next = place;
            self.events[next].previous = place;
        }
    }
}

fn flip(set: &mut [u64], bit: usize) {
    set[bit / 64] ^= 1 << (bit % 64);
}

#[cfg(test)]
mod tests {
    use super::super::sample::{points, put};
    use super::*;

    fn call(action: TagAction, answer: TagAnswer, start: u64, end: u64) -> Call {
        let end = (answer != TagAnswer::Unknown).then_some(end);
        Call { start, end, action, answer }
    }

    fn cas(expected: Option<&str>, digest: &str) -> TagAction {
        TagAction::Cas { expected: expected.map(Into::into), digest: digest.into() }
    }

    fn verdict(calls: &[Call]) -> Verdict {
        check(calls)
    }

    use TagAction::{Delete, Read};
    use TagAnswer::{Absent, Conflict, Done, Unknown};
    use Verdict::{Linearizable, Not};

    #[test]
    fn in_turn() {
        let mut calls = vec![call(Read, Absent, 0, 1), call(put("a"), Done, 2, 3), call(Read, points("a"), 4, 5)];
        assert_eq!(verdict(&calls), Linearizable);
        calls.push(call(Read, Absent, 6, 7));
        assert_eq!(verdict(&calls), Not, "a lost write");
    }

    #[test]
    fn a_stale_read_is_found_and_a_concurrent_one_is_not() {
        let writes = [call(put("a"), Done, 0, 1), call(put("b"), Done, 2, 6)];
        let with = |start, end, d| verdict(&[writes[0].clone(), writes[1].clone(), call(Read, points(d), start, end)]);
        assert_eq!(with(3, 4, "a"), Linearizable);
        assert_eq!(with(3, 4, "b"), Linearizable);
        assert_eq!(with(7, 8, "a"), Not);
    }

    #[test]
    fn reads_do_not_go_back() {
        let calls = [
            call(put("a"), Done, 0, 1),
            call(put("b"), Done, 2, 9),
            call(Read, points("b"), 3, 4),
            call(Read, points("a"), 5, 6),
        ];
        assert_eq!(verdict(&calls), Not);
    }

    #[test]
    fn an_unknown_write_may_come_late_or_never_but_once() {
        let calls = [
            call(put("a"), Done, 0, 1),
            call(put("b"), Unknown, 2, 0),
            call(Read, points("a"), 3, 4),
            call(Read, points("b"), 5, 6),
        ];
        assert_eq!(verdict(&calls), Linearizable);
        assert_eq!(verdict(&calls[..3]), Linearizable);
        let mut again = calls.to_vec();
        again.extend([call(put("c"), Done, 7, 8), call(Read, points("b"), 9, 10)]);
        assert_eq!(verdict(&again), Not, "an old retry undid a newer write");
    }

    #[test]
    fn of_two_that_expect_the_same_one_wins() {
        let base = call(put("a"), Done, 0, 1);
        let both = |first, second| {
            verdict(&[base.clone(), call(cas(Some("a"), "b"), first, 2, 5), call(cas(Some("a"), "c"), second, 3, 6)])
        };
        assert_eq!(both(Done, Conflict), Linearizable);
        assert_eq!(both(Done, Done), Not);
        assert_eq!(both(Conflict, Conflict), Not);
        assert_eq!(both(Unknown, Conflict), Linearizable);
    }

    #[test]
    fn an_unseen_put_may_explain_a_conflict() {
        let calls =
            [call(put("a"), Done, 0, 1), call(put("b"), Unknown, 2, 0), call(cas(Some("a"), "c"), Conflict, 3, 4)];
        assert_eq!(verdict(&calls), Linearizable);
    }

    #[test]
    fn deletes() {
        let delete_manifest = |d: &str| TagAction::DeleteManifest { digest: d.into() };
        let base = call(put("a"), Done, 0, 1);
        assert_eq!(verdict(&[base.clone(), call(Delete, Done, 2, 3), call(Read, Absent, 4, 5)]), Linearizable);
        assert_eq!(verdict(&[base.clone(), call(Delete, Done, 2, 3), call(Read, points("a"), 4, 5)]), Not);
        assert_eq!(verdict(&[base.clone(), call(Delete, Done, 2, 3), call(Delete, Done, 4, 5)]), Not);
        assert_eq!(
            verdict(&[base.clone(), call(delete_manifest("a"), Done, 2, 3), call(Read, Absent, 4, 5)]),
            Linearizable
        );
        assert_eq!(verdict(&[base.clone(), call(delete_manifest("b"), Done, 2, 3), call(Read, Absent, 4, 5)]), Not);
        assert_eq!(verdict(&[base, call(Delete, Absent, 2, 3)]), Not);
    }
}

//! I2 and I8: whatever clients were told of a tag, a manifest or a link can be put in one order, each between its
//! beginning and its end, in which every answer is right. A write of unknown outcome stands anywhere after its
//! beginning, or nowhere. So no acknowledged write is lost, and no acknowledged delete comes back.
//!
//! The search is that of Wing and Gong, remembering where it was (Lowe).

use std::collections::HashSet;

use atoll_types::Digest;

use crate::history::{Deed, Event, Register};
use crate::world::World;

/// Most states of one search.
const STATES_MAX: usize = 400_000;
/// Most events of one register; what is beyond is not looked at.
const EVENTS_MAX: usize = 128;

type Value = Option<Digest>;

pub(crate) fn check(world: &World) {
    let registers: Vec<(Register, Vec<Event>)> =
        world.history(|history| history.registers().map(|(of, events)| (of.clone(), events.clone())).collect());
    for (register, events) in registers {
        match search(&events) {
            Verdict::Linearizable => {}
            Verdict::Undecided => world.judge.undecided(),
            Verdict::Violated => {
                let invariant = if matches!(register, Register::Tag(..)) { "I2" } else { "I8" };
                world.judge.violated(invariant, format!("no order explains {register:?}: {}", story(&events)));
            }
        }
    }
}

fn story(events: &[Event]) -> String {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| event.start_ms);
    let one = |event: &Event| {
        let end = event.end_ms.map_or("?".to_owned(), |end| end.to_string());
        format!("{}..{end} {:?}", event.start_ms, event.deed)
    };
    sorted.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Linearizable,
    Violated,
    Undecided,
}

/// What a deed makes of a value; `None` when it could not have been answered so.
fn apply(deed: Deed, value: Value) -> Option<Value> {
    match deed {
        Deed::Put(new) => Some(Some(new)),
        Deed::Swap(before, new) => (value == before).then_some(Some(new)),
        Deed::Remove => value.is_some().then_some(None),
        Deed::RemoveIf(what) => Some(value.filter(|now| *now != what)),
        Deed::See(seen) => (value == seen).then_some(value),
        Deed::SeeNot(other) => (value != Some(other)).then_some(value),
    }
}

/// Depth first: the next event is any that began before the first end of those that are left.
fn search(events: &[Event]) -> Verdict {
    let mut events: Vec<Event> = events.to_vec();
    if events.len() > EVENTS_MAX {
        return Verdict::Undecided;
    }
    events.sort_by_key(|event| event.start_ms);
    let certain: u128 = mask(&events, |event| event.end_ms.is_some());
    let (mut seen, mut stack) = (HashSet::new(), vec![(0u128, None)]);
    while let Some((done, value)) = stack.pop() {
        if done & certain == certain {
            return Verdict::Linearizable;
        }
        if !seen.insert((done, value)) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return Verdict::Undecided;
        }
        let left = |nth: &usize| done & (1 << nth) == 0;
        let first_end = (0..events.len()).filter(left).filter_map(|nth| events[nth].end_ms).min().unwrap_or(u64::MAX);
        for nth in (0..events.len()).filter(left).take_while(|nth| events[*nth].start_ms <= first_end) {
            if let Some(value) = apply(events[nth].deed, value) {
                stack.push((done | (1 << nth), value));
            }
        }
    }
    Verdict::Violated
}

fn mask(events: &[Event], which: impl Fn(&Event) -> bool) -> u128 {
    events.iter().enumerate().filter(|(_, event)| which(event)).fold(0, |mask, (nth, _)| mask | (1 << nth))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(deed: Deed, start_ms: u64, end_ms: Option<u64>) -> Event {
        Event { deed, start_ms, end_ms }
    }

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    #[test]
    fn what_happens_one_after_the_other_must_add_up() {
        let (a, b) = (digest("a"), digest("b"));
        let put = [event(Deed::Put(a), 0, Some(10)), event(Deed::Put(b), 20, Some(30))];
        let read = |seen, start, end| event(Deed::See(seen), start, Some(end));
        let with = |more: &[Event]| search(&[&put[..], more].concat());
        assert_eq!(with(&[read(Some(b), 40, 50)]), Verdict::Linearizable);
        assert_eq!(with(&[read(Some(a), 40, 50)]), Verdict::Violated, "an acknowledged write was lost");
        assert_eq!(with(&[read(Some(a), 25, 50)]), Verdict::Linearizable, "at the same time");
        assert_eq!(with(&[read(Some(b), 21, 24), read(Some(a), 25, 29)]), Verdict::Violated, "back in time");
        assert_eq!(
            with(&[event(Deed::Remove, 40, Some(50)), read(Some(b), 60, 70)]),
            Verdict::Violated,
            "it came back"
        );
    }

    #[test]
    fn what_is_unknown_happens_at_any_time_or_never() {
        let (a, b) = (digest("a"), digest("b"));
        let unknown = [event(Deed::Put(a), 0, Some(10)), event(Deed::Put(b), 20, None)];
        let read = |seen, start| event(Deed::See(Some(seen)), start, Some(start + 1));
        let with = |more: &[Event]| search(&[&unknown[..], more].concat());
        assert_eq!(with(&[read(a, 30)]), Verdict::Linearizable);
        assert_eq!(with(&[read(a, 30), read(b, 40)]), Verdict::Linearizable, "later");
        assert_eq!(with(&[read(b, 12)]), Verdict::Violated, "before it was begun");
        assert_eq!(with(&[read(b, 30), read(a, 40)]), Verdict::Violated, "it does not go away again");
    }

    #[test]
    fn conditions_must_have_held() {
        let (a, b) = (digest("a"), digest("b"));
        let put = event(Deed::Put(a), 0, Some(10));
        assert_eq!(search(&[put, event(Deed::Swap(Some(a), b), 20, Some(30))]), Verdict::Linearizable);
        assert_eq!(search(&[put, event(Deed::Swap(None, b), 20, Some(30))]), Verdict::Violated);
        assert_eq!(search(&[put, event(Deed::SeeNot(a), 20, Some(30))]), Verdict::Violated);
        let removed = [put, event(Deed::RemoveIf(b), 20, Some(30)), event(Deed::See(Some(a)), 40, Some(50))];
        assert_eq!(search(&removed), Verdict::Linearizable, "another manifest was removed");
    }
}

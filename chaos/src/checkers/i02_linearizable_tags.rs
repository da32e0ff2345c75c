//! I2: tags are linearizable, for writes and for reads through a barrier; a local read is as old as it says at most.

use std::collections::BTreeMap;

use super::linearizability::{Call, Verdict, check as linearizable};
use crate::history::{History, TagAction, TagAnswer, TagOperation};

/// Each tag by itself.
pub(super) fn check(history: &History) -> Vec<String> {
    let mut tags: BTreeMap<(&str, &str), Vec<&TagOperation>> = BTreeMap::new();
    for operation in &history.tags {
        tags.entry((&operation.repository, &operation.tag)).or_default().push(operation);
    }
    tags.into_iter()
        .flat_map(|((repository, tag), operations)| of_tag(&format!("{repository}:{tag}"), &operations))
        .collect()
}

fn of_tag(name: &str, operations: &[&TagOperation]) -> Vec<String> {
    let mut found: Vec<String> = wrong_revisions(operations).map(|what| format!("{name}: {what}")).collect();
    let calls: Vec<Call> = operations.iter().filter_map(|o| call(o)).collect();
    found.extend(told(name, linearizable(&calls), &calls));
    found
}

/// A search that was given up has shown nothing, which is no better than a history without an order.
fn told(name: &str, verdict: Verdict, calls: &[Call]) -> Option<String> {
    match verdict {
        Verdict::Linearizable => None,
        Verdict::Not => Some(format!("{name} is not linearizable: {}", culprit(calls))),
        Verdict::Undecided => Some(format!("{name}: too tangled to decide; {} operations", calls.len())),
    }
}

/// A read whose view may be of any age, or that brought nothing, says nothing.
fn call(operation: &TagOperation) -> Option<Call> {
    let span = operation.span;
    let mut start = span.start;
    if operation.action == TagAction::Read {
        if operation.answer == TagAnswer::Unknown {
            return None;
        }
        start = start.saturating_sub(operation.staleness_ms? * 1000);
    }
    let end = (operation.answer != TagAnswer::Unknown).then_some(span.end);
    Some(Call { start, end, action: operation.action.clone(), answer: operation.answer.clone() })
}

/// The first operation, by its end, that no order explains.
fn culprit(calls: &[Call]) -> String {
    let mut ends: Vec<u64> = calls.iter().filter_map(|c| c.end).collect();
    ends.sort_unstable();
    let fails = |end: &u64| linearizable(&until(calls, *end)) == Verdict::Not;
    let Some(end) = ends.into_iter().find(fails) else { return "as a whole".to_owned() };
    let shown = |c: &&Call| c.end == Some(end);
    calls.iter().find(shown).map_or_else(String::new, |c| format!("{c:?}"))
}

/// What had begun by a time; what had not ended by then may still have any outcome.
fn until(calls: &[Call], time: u64) -> Vec<Call> {
    let begun = calls.iter().filter(|c| c.start <= time);
    let cut = begun.filter_map(|c| match c.end {
        Some(end) if end > time && c.action == TagAction::Read => None,
        Some(end) if end > time => Some(Call { end: None, answer: TagAnswer::Unknown, ..c.clone() }),
        _ => Some(c.clone()),
    });
    cut.collect()
}

/// A write that began after another one was acknowledged has the higher revision.
fn wrong_revisions<'a>(operations: &'a [&TagOperation]) -> impl Iterator<Item = String> + 'a {
    let mut writes: Vec<(u64, u64, u64)> =
        operations.iter().filter_map(|o| Some((o.span.start, o.span.end, o.revision?))).collect();
    writes.sort_unstable_by_key(|(_, end, _)| *end);
    let mut highest = Vec::with_capacity(writes.len());
    let mut so_far = 0;
    for (_, end, revision) in &writes {
        so_far = so_far.max(*revision);
        highest.push((*end, so_far));
    }
    writes.into_iter().filter_map(move |(start, _, revision)| {
        let before = highest.partition_point(|(end, _)| *end < start);
        let (_, earlier) = *highest.get(before.checked_sub(1)?)?;
        (revision <= earlier).then(|| format!("a write of revision {revision} began after {earlier} was acknowledged"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{points, put, tag};
    use super::*;

    fn found(tags: Vec<TagOperation>) -> usize {
        check(&History { tags, ..History::default() }).len()
    }

    #[test]
    fn a_lost_update_is_found() {
        let writes = [tag(put("a"), TagAnswer::Done, (0, 1)), tag(put("b"), TagAnswer::Done, (2, 3))];
        let read = |digest| tag(TagAction::Read, points(digest), (4, 5));
        assert_eq!(found([&writes[..], &[read("b")]].concat()), 0);
        assert_eq!(found([&writes[..], &[read("a")]].concat()), 1);
    }

    #[test]
    fn a_search_that_is_given_up_is_a_violation() {
        assert_eq!(told("r:t", Verdict::Undecided, &[]).as_deref(), Some("r:t: too tangled to decide; 0 operations"));
        assert_eq!(told("r:t", Verdict::Linearizable, &[]), None);
    }

    #[test]
    fn a_local_read_may_be_as_old_as_it_says() {
        let writes = [tag(put("a"), TagAnswer::Done, (0, 1_000)), tag(put("b"), TagAnswer::Done, (100_000, 101_000))];
        let read =
            |staleness_ms| TagOperation { staleness_ms, ..tag(TagAction::Read, points("a"), (120_000, 121_000)) };
        assert_eq!(found([&writes[..], &[read(Some(10))]].concat()), 1);
        assert_eq!(found([&writes[..], &[read(Some(30))]].concat()), 0);
        assert_eq!(found([&writes[..], &[read(None)]].concat()), 0);
    }

    #[test]
    fn revisions_follow_time() {
        let first = tag(put("a"), TagAnswer::Done, (0, 5));
        let mut second = tag(put("b"), TagAnswer::Done, (6, 9));
        assert_eq!(found(vec![first.clone(), second.clone()]), 0);
        second.revision = Some(4);
        assert_eq!(found(vec![first, second]), 1);
    }

    #[test]
    fn tags_are_looked_at_apart() {
        let mut other = tag(TagAction::Read, TagAnswer::Absent, (4, 5));
        let write = tag(put("a"), TagAnswer::Done, (0, 1));
        assert_eq!(found(vec![write.clone(), other.clone()]), 1);
        other.tag = "u".into();
        assert_eq!(found(vec![write, other]), 0);
    }
}

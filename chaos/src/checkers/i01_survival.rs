//! I1: an acknowledged push survives, with identical bytes.

use std::collections::HashMap;

use crate::history::{Brought, History, Read, What};

type Key<'a> = (What, &'a str, &'a str);

/// What was acknowledged and never asked to be deleted must be there: at every node when all is at rest, and at any time
/// at a node that has applied its revision.
pub(super) fn check(history: &History) -> Vec<String> {
    let acknowledged = acknowledged(history);
    let lost = history.reads.iter().filter(|r| !r.foreign && is_lost(r, &acknowledged));
    let told = lost.map(|r| {
        let (what, node) = (r.what, r.span.node);
        format!(
            "{what:?} {}@{} was acknowledged and is {:?} at node {node}: {} {}",
            r.repository, r.digest, r.brought, r.status, r.text
        )
    });
    told.collect()
}

fn is_lost(read: &Read, acknowledged: &HashMap<Key<'_>, u64>) -> bool {
    let Some(revision) = acknowledged.get(&(read.what, &*read.repository, &*read.digest)) else { return false };
    let applied = read.min_revision.is_some_and(|applied| applied >= *revision);
    (read.at_rest && read.brought != Brought::Right) || (applied && read.brought == Brought::Absent)
}

/// What no delete may have taken away, and the first revision of each.
fn acknowledged(history: &History) -> HashMap<Key<'_>, u64> {
    let mut acknowledged = HashMap::new();
    for push in history.standing() {
        let revision = push.revision.unwrap_or(u64::MAX);
        let key = (push.what, &*push.repository, &*push.digest);
        acknowledged.entry(key).and_modify(|r: &mut u64| *r = revision.min(*r)).or_insert(revision);
    }
    acknowledged
}

#[cfg(test)]
mod tests {
    use super::super::sample::{deleted, pushed, read};
    use super::*;
    use crate::history::Outcome;

    fn history(outcome: Outcome, brought: Brought) -> History {
        History {
            pushed: vec![pushed(What::Blob, "a", (0, 1), outcome)],
            reads: vec![read(What::Blob, "a", (8, 9), brought)],
            ..History::default()
        }
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        assert!(check(&history(Outcome::Ok, Brought::Right)).is_empty());
        for bad in [Brought::Absent, Brought::Wrong, Brought::Torn, Brought::Nothing] {
            assert_eq!(check(&history(Outcome::Ok, bad)).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_node_that_has_applied_it_has_it_at_any_time() {
        let mut history = history(Outcome::Ok, Brought::Absent);
        history.reads[0].at_rest = false;
        assert_eq!(check(&history).len(), 0);
        history.reads[0].min_revision = Some(1);
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn what_was_not_acknowledged_or_was_deleted_need_not() {
        assert!(check(&history(Outcome::Unknown, Brought::Absent)).is_empty());
        for (outcome, violations) in [(Outcome::Ok, 0), (Outcome::Unknown, 0), (Outcome::Failed, 1)] {
            let mut history = history(Outcome::Ok, Brought::Absent);
            history.deleted.push(deleted(What::Blob, "a", (2, 3), outcome));
            assert_eq!(check(&history).len(), violations, "{outcome:?}");
        }
    }
}

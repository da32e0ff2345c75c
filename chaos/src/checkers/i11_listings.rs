//! I11: a paged listing never loses an entry that was present throughout.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Listing, TagAction, TagAnswer, TagOperation};

/// Each listing by itself; they are made through a barrier.
pub(super) fn check(history: &History) -> Vec<String> {
    let mut tags: BTreeMap<&str, BTreeMap<&str, Vec<&TagOperation>>> = BTreeMap::new();
    for operation in &history.tags {
        tags.entry(&operation.repository).or_default().entry(&operation.tag).or_default().push(operation);
    }
    let none = BTreeMap::new();
    history.listings.iter().flat_map(|l| of_listing(l, tags.get(&*l.repository).unwrap_or(&none))).collect()
}

fn of_listing(listing: &Listing, tags: &BTreeMap<&str, Vec<&TagOperation>>) -> Vec<String> {
    let listed: BTreeSet<&str> = listing.tags.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    if listed.len() < listing.tags.len() {
        found.push(format!("a listing of {} names a tag twice: {:?}", listing.repository, listing.tags));
    }
    let lost = tags.iter().filter(|(tag, operations)| !listed.contains(**tag) && is_there(operations, listing));
    let told = lost.map(|(tag, _)| {
        format!(
            "a listing of {} at node {} lacks {tag}, which was there throughout",
            listing.repository, listing.span.node
        )
    });
    found.extend(told);
    found
}

/// A write was acknowledged before, and nothing that could remove the tag ended after that write began.
fn is_there(operations: &[&TagOperation], listing: &Listing) -> bool {
    let writes = operations.iter().filter(|o| {
        matches!(o.action, TagAction::Put { .. } | TagAction::Cas { .. })
            && o.answer == TagAnswer::Done
            && o.span.end < listing.span.start
    });
    let Some(newest) = writes.map(|o| o.span.start).max() else { return false };
    !operations.iter().any(|o| may_remove(o, newest, listing.span.end))
}

fn may_remove(operation: &TagOperation, since: u64, until: u64) -> bool {
    let removes = matches!(operation.action, TagAction::Delete | TagAction::DeleteManifest { .. });
    let late = operation.answer == TagAnswer::Unknown || operation.span.end > since;
    removes && late && operation.span.start < until
}

#[cfg(test)]
mod tests {
    use super::super::sample::{put, span, tag};
    use super::*;

    fn found(operations: Vec<TagOperation>, listed: &[&str]) -> usize {
        let tags = listed.iter().map(|t| (*t).to_owned()).collect();
        let listing = Listing { repository: "r".into(), span: span(10, 20), tags };
        check(&History { tags: operations, listings: vec![listing], ..History::default() }).len()
    }

    #[test]
    fn a_tag_that_was_there_throughout_is_listed_once() {
        let there = tag(put("a"), TagAnswer::Done, (0, 5));
        assert_eq!(found(vec![there.clone()], &["t"]), 0);
        assert_eq!(found(vec![there.clone()], &[]), 1);
        assert_eq!(found(vec![there], &["t", "t"]), 1);
        assert_eq!(found(vec![tag(put("a"), TagAnswer::Done, (0, 11))], &[]), 0, "it came meanwhile");
    }

    #[test]
    fn a_tag_that_may_have_been_removed_need_not_be() {
        let there = tag(put("a"), TagAnswer::Done, (0, 5));
        for (delete, lost) in [
            (tag(TagAction::Delete, TagAnswer::Done, (12, 13)), 0),
            (tag(TagAction::Delete, TagAnswer::Done, (6, 7)), 0),
            (tag(TagAction::Delete, TagAnswer::Unknown, (0, 1)), 0),
            (tag(TagAction::Delete, TagAnswer::Done, (22, 23)), 1),
        ] {
            assert_eq!(found(vec![there.clone(), delete.clone()], &[]), lost, "{delete:?}");
        }
    }
}

//! I5: nothing is deleted that is referenced, freshly uploaded, or being mounted.

use std::collections::HashMap;

use crate::history::{Deleted, History, Outcome, Pushed, What};

/// A put is never told that a blob is missing whose upload or mount was acknowledged before; a delete of a blob that a
/// manifest refers to is refused.
pub(super) fn check(history: &History) -> Vec<String> {
    if history.damaged {
        // A last copy that was found to be damaged is unknown until it is pushed again, and that is right.
        return deletes_of_referenced(history);
    }
    missing_at_put(history).chain(deletes_of_referenced(history)).collect()
}

fn missing_at_put(history: &History) -> impl Iterator<Item = String> + '_ {
    let mut linked: HashMap<(&str, &str), u64> = HashMap::new();
    for push in history.pushed.iter().filter(|p| p.what == What::Blob && p.outcome == Outcome::Ok) {
        let end = linked.entry((&push.repository, &push.digest)).or_insert(u64::MAX);
        *end = push.span.end.min(*end);
    }
    let unlinked = |repository: &str, digest: &str| {
        history.deleted.iter().any(|d| d.what == What::Blob && d.repository == repository && d.digest == digest)
    };
    let refused = history.pushed.iter().filter(|p| p.what == What::Manifest && p.status == 404);
    refused.filter_map(move |put| {
        let there = |b: &String| linked.get(&(&*put.repository, &**b)).is_some_and(|end| *end < put.span.start);
        let all = put.blobs.iter().all(|b| there(b) && !unlinked(&put.repository, b));
        all.then(|| {
            format!(
                "the put of {}@{} was refused as if a blob were missing, and all were acknowledged",
                put.repository, put.digest
            )
        })
    })
}

fn deletes_of_referenced(history: &History) -> Vec<String> {
    let deletes = history.deleted.iter().filter(|d| d.what == What::Blob && d.outcome == Outcome::Ok);
    let told = deletes.filter_map(|delete| {
        let by = history.pushed.iter().find(|p| refers(p, delete) && stays(history, p))?;
        Some(format!(
            "blob {}@{} was deleted although manifest {} refers to it",
            delete.repository, delete.digest, by.digest
        ))
    });
    told.collect()
}

fn refers(put: &Pushed, delete: &Deleted) -> bool {
    put.what == What::Manifest
        && put.outcome == Outcome::Ok
        && put.span.end < delete.span.start
        && put.repository == delete.repository
        && put.blobs.contains(&delete.digest)
}

fn stays(history: &History, put: &Pushed) -> bool {
    let same = |d: &&Deleted| d.what == What::Manifest && d.repository == put.repository && d.digest == put.digest;
    !history.deleted.iter().any(|d| same(&d) && d.outcome != Outcome::Failed)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{deleted, pushed};
    use super::*;

    fn manifest(status: u16, outcome: Outcome, at: (u64, u64)) -> Pushed {
        Pushed { blobs: vec!["b".into()], status, ..pushed(What::Manifest, "m", at, outcome) }
    }

    #[test]
    fn a_fresh_upload_that_a_put_does_not_find_is_found() {
        let history = |blob: (u64, u64), outcome| History {
            pushed: vec![pushed(What::Blob, "b", blob, outcome), manifest(404, Outcome::Failed, (5, 6))],
            ..History::default()
        };
        assert_eq!(check(&history((0, 1), Outcome::Ok)).len(), 1);
        assert_eq!(check(&history((0, 5), Outcome::Ok)).len(), 0, "it was not acknowledged yet");
        assert_eq!(check(&history((0, 1), Outcome::Unknown)).len(), 0);
        assert_eq!(check(&History { damaged: true, ..history((0, 1), Outcome::Ok) }).len(), 0);
    }

    #[test]
    fn a_blob_that_is_referred_to_is_not_deleted() {
        let mut history = History {
            pushed: vec![manifest(201, Outcome::Ok, (0, 1))],
            deleted: vec![deleted(What::Blob, "b", (2, 3), Outcome::Ok)],
            ..History::default()
        };
        assert_eq!(check(&history).len(), 1);
        history.deleted[0].outcome = Outcome::Failed;
        assert_eq!(check(&history).len(), 0);
        history.deleted =
            vec![deleted(What::Blob, "b", (4, 5), Outcome::Ok), deleted(What::Manifest, "m", (2, 3), Outcome::Ok)];
        assert_eq!(check(&history).len(), 0);
    }
}

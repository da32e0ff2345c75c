//! I5: nothing is deleted that is referenced, freshly uploaded, or being mounted.

use std::collections::HashMap;

use super::i10_sessions::owner_lived;
use crate::history::{Brought, Deleted, History, Outcome, Pushed, SessionStep, Step, What};

/// A put is never told that a blob is missing whose upload or mount was acknowledged before, or a child whose put was; a
/// delete of a blob or a child that a manifest refers to is refused; one in another repository takes nothing away from
/// this one; a session that is slow is not ended.
pub(super) fn check(history: &History) -> Vec<String> {
    let always = deletes_of_referenced(history).into_iter().chain(lost_sessions(history));
    if history.damaged {
        // A last copy that was found to be damaged is unknown until it is pushed again, and that is right.
        return always.collect();
    }
    always.chain(missing_at_put(history)).chain(gone_with_another(history)).collect()
}

/// A session is known for as long as its node lives.
fn lost_sessions(history: &History) -> impl Iterator<Item = String> + '_ {
    let lost = history.sessions.iter().filter(|s| s.step == Step::Lost);
    lost.filter_map(|lost| {
        let steps: Vec<&SessionStep> = history.sessions.iter().filter(|s| s.session == lost.session).collect();
        owner_lived(history, &steps).then(|| format!("session {} was ended in the midst of its upload", lost.session))
    })
}

/// A blob that was deleted in one repository and is not served in another one that links it.
fn gone_with_another(history: &History) -> impl Iterator<Item = String> + '_ {
    let of_blob = |d: &&Deleted| d.what == What::Blob && d.outcome == Outcome::Ok;
    history.deleted.iter().filter(of_blob).flat_map(move |delete| {
        let kept = history.pushed.iter().filter(move |p| {
            p.what == What::Blob
                && p.outcome == Outcome::Ok
                && p.digest == delete.digest
                && !history.deleted.iter().any(|d| d.digest == p.digest && d.repository == p.repository)
        });
        kept.filter_map(move |p| {
            let gone = history.reads.iter().find(|r| {
                r.repository == p.repository
                    && r.digest == p.digest
                    && r.span.start > delete.span.end
                    && r.span.start > p.span.end
                    && !r.foreign
                    && (r.at_rest && r.brought != Brought::Right || r.brought == Brought::Absent)
            })?;
            Some(format!(
                "blob {} was deleted in {}, and is {:?} in {}",
                p.digest, delete.repository, gone.brought, p.repository
            ))
        })
    })
}

fn missing_at_put(history: &History) -> impl Iterator<Item = String> + '_ {
    let mut pushed: HashMap<(&str, &str), u64> = HashMap::new();
    for push in history.pushed.iter().filter(|p| p.outcome == Outcome::Ok) {
        let end = pushed.entry((&push.repository, &push.digest)).or_insert(u64::MAX);
        *end = push.span.end.min(*end);
    }
    let is_deleted = |repository: &str, digest: &str| {
        let mut deleted = history.deleted.iter().filter(|d| d.outcome != Outcome::Failed);
        deleted.any(|d| d.repository == repository && d.digest == digest)
    };
    let refused = history.pushed.iter().filter(|p| p.what == What::Manifest && p.status == 404);
    refused.filter_map(move |put| {
        let there = |b: &String| pushed.get(&(&*put.repository, &**b)).is_some_and(|end| *end < put.span.start);
        let all = put.blobs.iter().all(|b| there(b) && !is_deleted(&put.repository, b));
        all.then(|| {
            format!(
                "the put of {}@{} was refused as if something were missing, and all was acknowledged",
                put.repository, put.digest
            )
        })
    })
}

fn deletes_of_referenced(history: &History) -> Vec<String> {
    let deletes = history.deleted.iter().filter(|d| d.outcome == Outcome::Ok);
    let told = deletes.filter_map(|delete| {
        let by = history.pushed.iter().find(|p| refers(p, delete) && stays(history, p))?;
        Some(format!(
            "{:?} {}@{} was deleted although manifest {} refers to it",
            delete.what, delete.repository, delete.digest, by.digest
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
    use super::super::sample::{deleted, pushed, read, span};
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

    #[test]
    fn a_child_of_an_index_is_not_deleted_and_not_missed() {
        let index = |status, outcome, at| Pushed {
            blobs: vec!["m".into()],
            status,
            ..pushed(What::Manifest, "i", at, outcome)
        };
        let mut history = History {
            pushed: vec![pushed(What::Manifest, "m", (0, 1), Outcome::Ok), index(201, Outcome::Ok, (2, 3))],
            deleted: vec![deleted(What::Manifest, "m", (4, 5), Outcome::Ok)],
            ..History::default()
        };
        assert_eq!(check(&history).len(), 1);
        history.deleted.push(deleted(What::Manifest, "i", (4, 5), Outcome::Ok));
        assert_eq!(check(&history).len(), 0, "the index went, too");
        history.pushed[1] = index(404, Outcome::Failed, (2, 3));
        assert_eq!(check(&history).len(), 0, "the child may have been gone");
        history.deleted[0].outcome = Outcome::Failed;
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn a_blob_stays_where_it_was_mounted_when_it_goes_elsewhere() {
        let mounted = Pushed { repository: "other".into(), ..pushed(What::Blob, "b", (0, 1), Outcome::Ok) };
        let there =
            |brought| crate::history::Read { repository: "other".into(), ..read(What::Blob, "b", (6, 7), brought) };
        let history = |brought| History {
            pushed: vec![mounted.clone()],
            deleted: vec![deleted(What::Blob, "b", (2, 3), Outcome::Ok)],
            reads: vec![there(brought)],
            ..History::default()
        };
        assert_eq!(check(&history(Brought::Right)).len(), 0);
        assert_eq!(check(&history(Brought::Absent)).len(), 1);
    }

    #[test]
    fn a_session_that_is_lost_while_its_node_lives_is_found() {
        let step = |at, step| SessionStep { session: "s".into(), span: span(at, at + 1), step, status: 404 };
        let mut history = History { sessions: vec![step(0, Step::Opened), step(5, Step::Lost)], ..History::default() };
        assert_eq!(check(&history).len(), 1);
        history.starts.push(crate::history::Started { node: 0, at: 3, damaged: false });
        assert_eq!(check(&history).len(), 0);
    }
}

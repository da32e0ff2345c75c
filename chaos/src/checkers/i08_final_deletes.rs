//! I8: a delete that was acknowledged never comes back at a node that has applied it.

use crate::history::{Brought, Deleted, History, Outcome, Read};

/// A read that began after the delete was acknowledged, at a node that has applied it, finds nothing, unless the same
/// was pushed again.
pub(super) fn check(history: &History) -> Vec<String> {
    let deletes = history.deleted.iter().filter(|d| is_final(history, d));
    let told = deletes.flat_map(|delete| {
        let back = history.reads.iter().filter(move |r| comes_back(r, delete));
        back.map(move |r| {
            format!(
                "{:?} {}@{} was deleted at revision {:?} and is back at node {}",
                delete.what, delete.repository, delete.digest, delete.revision, r.span.node
            )
        })
    });
    told.collect()
}

/// Whether a delete was acknowledged and nothing in the history may have undone it.
pub(crate) fn is_final(history: &History, delete: &Deleted) -> bool {
    delete.outcome == Outcome::Ok && !pushed_again(history, delete)
}

fn pushed_again(history: &History, delete: &Deleted) -> bool {
    let mut same = history
        .pushed
        .iter()
        .filter(|p| p.what == delete.what && p.repository == delete.repository && p.digest == delete.digest);
    // One whose outcome is unknown may come at any later time.
    same.any(|p| match p.outcome {
        Outcome::Ok => p.span.end > delete.span.start,
        Outcome::Unknown => true,
        Outcome::Failed => false,
    })
}

fn comes_back(read: &Read, delete: &Deleted) -> bool {
    let same = read.what == delete.what && read.repository == delete.repository && read.digest == delete.digest;
    let applied = read.at_rest || (read.min_revision.is_some() && read.min_revision >= delete.revision);
    let there = matches!(read.brought, Brought::Right | Brought::Wrong | Brought::Torn);
    same && applied && there && read.span.start > delete.span.end
}

#[cfg(test)]
mod tests {
    use super::super::sample::{deleted, pushed, read};
    use super::*;
    use crate::history::{Pushed, What};

    fn history(pushes: &[Pushed], outcome: Outcome, read: Read) -> History {
        History {
            pushed: pushes.to_vec(),
            deleted: vec![deleted(What::Manifest, "m", (4, 5), outcome)],
            reads: vec![read],
            ..History::default()
        }
    }

    #[test]
    fn what_was_deleted_stays_so() {
        let push = [pushed(What::Manifest, "m", (0, 1), Outcome::Ok)];
        let back = read(What::Manifest, "m", (6, 7), Brought::Right);
        assert_eq!(check(&history(&push, Outcome::Ok, back.clone())).len(), 1);
        assert_eq!(check(&history(&push, Outcome::Unknown, back.clone())).len(), 0);
        assert_eq!(check(&history(&push, Outcome::Ok, read(What::Manifest, "m", (6, 7), Brought::Absent))).len(), 0);
        let local = Read { at_rest: false, ..back.clone() };
        assert_eq!(check(&history(&push, Outcome::Ok, local.clone())).len(), 0, "it may not have applied it");
        let applied = Read { min_revision: Some(5), ..local };
        assert_eq!(check(&history(&push, Outcome::Ok, applied)).len(), 1);
        let again = [push[0].clone(), pushed(What::Manifest, "m", (5, 6), Outcome::Ok)];
        assert_eq!(check(&history(&again, Outcome::Ok, back)).len(), 0);
    }

    #[test]
    fn a_blob_that_an_earlier_round_deleted_stays_so_in_its_repository() {
        let back = read(What::Blob, "b", (6, 7), Brought::Right);
        let mut history = History {
            deleted: vec![deleted(What::Blob, "b", (0, 0), Outcome::Ok)],
            reads: vec![back],
            ..History::default()
        };
        assert_eq!(check(&history).len(), 1);
        history.reads[0].repository = "elsewhere".into();
        assert_eq!(check(&history).len(), 0, "another repository may link it");
        history.reads[0].repository = "r".into();
        history.pushed = vec![pushed(What::Blob, "b", (2, 3), Outcome::Ok)];
        assert_eq!(check(&history).len(), 0, "it was mounted again");
    }
}

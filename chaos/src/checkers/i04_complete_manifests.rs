//! I4: what a visible manifest refers to can be had in the same region, while some region with a copy is reached.

use std::collections::HashSet;

use crate::faults::Fault;
use crate::history::{Brought, History, Outcome, Read};

/// Faults that keep no region from any other, and take nothing from any.
const HARMLESS: [Fault; 1] = [Fault::PausedReplication];
const REFUSED_FROM: u16 = 500;

/// A blob of a manifest that a node showed, or a child of an index, is never unknown there. It is served at rest; and at
/// any time where nothing keeps the node from the regions that have it.
pub(super) fn check(history: &History) -> Vec<String> {
    let asked = history.reads.iter().filter(|r| r.of_manifest.is_some() && !r.foreign);
    let (gone, reached) = (gone(history), all_are_reached(history));
    let is_broken = |r: &&Read| is_lacking(r) || (reached && is_refused(r));
    asked.filter(|r| is_broken(r) && !gone.contains(&(&*r.repository, &*r.digest))).map(told).collect()
}

/// What somebody took away from a repository, which works once the manifest that refers to it is gone.
fn gone(history: &History) -> HashSet<(&str, &str)> {
    let deleted = history.deleted.iter().filter(|d| d.outcome != Outcome::Failed);
    deleted.map(|d| (&*d.repository, &*d.digest)).collect()
}

/// Whether all that was done to the cluster is known to be harmless.
fn all_are_reached(history: &History) -> bool {
    let is_harmless = |name: &&str| HARMLESS.iter().any(|fault| fault.name() == *name);
    !history.faults.is_empty() && history.faults.iter().all(is_harmless)
}

/// Without its regions a node says 503; that it knows nothing of the blob it must never say.
fn is_lacking(read: &Read) -> bool {
    read.brought == Brought::Absent || (read.at_rest && read.brought != Brought::Right)
}

/// A node that has too much to do says 429.
fn is_refused(read: &Read) -> bool {
    read.brought == Brought::Torn || (read.brought == Brought::Nothing && read.status >= REFUSED_FROM)
}

fn told(read: &Read) -> String {
    format!(
        "node {} showed manifest {}@{}, and its {:?} {} is {:?} there: {} {}",
        read.span.node,
        read.repository,
        read.of_manifest.as_deref().unwrap_or_default(),
        read.what,
        read.digest,
        read.brought,
        read.status,
        read.text
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample::{deleted, read};
    use super::*;
    use crate::history::What;

    fn found(brought: Brought, at_rest: bool, of_manifest: Option<&str>) -> usize {
        let read = Read { at_rest, of_manifest: of_manifest.map(Into::into), ..read(What::Blob, "a", (0, 1), brought) };
        check(&History { reads: vec![read], ..History::default() }).len()
    }

    #[test]
    fn a_blob_of_a_visible_manifest_is_never_unknown() {
        assert_eq!(found(Brought::Absent, false, Some("m")), 1);
        assert_eq!(found(Brought::Nothing, false, Some("m")), 0, "its regions may be out of reach");
        assert_eq!(found(Brought::Nothing, true, Some("m")), 1);
        assert_eq!(found(Brought::Right, true, Some("m")), 0);
        assert_eq!(found(Brought::Absent, false, None), 0);
    }

    #[test]
    fn where_all_regions_are_reached_it_is_not_refused_either() {
        let found = |faults: &[Fault], brought, status| {
            let of_manifest = Some("m".to_owned());
            let read = Read { at_rest: false, of_manifest, status, ..read(What::Blob, "a", (0, 1), brought) };
            let faults = faults.iter().map(|fault| fault.name()).collect();
            check(&History { reads: vec![read], faults, ..History::default() }).len()
        };
        let paused = [Fault::PausedReplication];
        assert_eq!(found(&paused, Brought::Nothing, 503), 1);
        assert_eq!(found(&paused, Brought::Torn, 200), 1);
        assert_eq!(found(&paused, Brought::Nothing, 429), 0, "it has too much to do");
        assert_eq!(found(&paused, Brought::Nothing, 0), 0, "the client did not wait");
        assert_eq!(found(&paused, Brought::Right, 200), 0);
        assert_eq!(found(&[Fault::PausedReplication, Fault::Kill], Brought::Nothing, 503), 0);
        assert_eq!(found(&[], Brought::Nothing, 503), 0, "nobody knows what was done");
    }

    #[test]
    fn a_child_of_a_visible_index_is_never_unknown_unless_it_was_deleted() {
        let child = Read { of_manifest: Some("i".into()), ..read(What::Manifest, "m", (0, 1), Brought::Absent) };
        let mut history = History { reads: vec![child], ..History::default() };
        assert_eq!(check(&history).len(), 1);
        history.deleted.push(deleted(What::Manifest, "m", (2, 3), Outcome::Failed));
        assert_eq!(check(&history).len(), 1, "the delete was refused");
        history.deleted[0].outcome = Outcome::Ok;
        assert_eq!(check(&history).len(), 0);
    }
}

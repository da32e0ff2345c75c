//! I4: what a visible manifest refers to can be had in the same region, while some region with a copy is reached.

use std::collections::HashSet;

use crate::history::{Brought, History, Outcome, Read, What};

/// A blob of a manifest that a node showed is never unknown there; at rest it is served.
pub(super) fn check(history: &History) -> Vec<String> {
    let asked = history.reads.iter().filter(|r| r.of_manifest.is_some() && !r.foreign);
    let unlinked = unlinked(history);
    asked.filter(|r| is_broken(r) && !unlinked.contains(&(&*r.repository, &*r.digest))).map(told).collect()
}

/// Blobs that somebody took away from a repository, which works once the manifest is gone.
fn unlinked(history: &History) -> HashSet<(&str, &str)> {
    let blobs = history.deleted.iter().filter(|d| d.what == What::Blob && d.outcome != Outcome::Failed);
    blobs.map(|d| (&*d.repository, &*d.digest)).collect()
}

/// Without its regions a node says 503; that it knows nothing of the blob it must never say.
fn is_broken(read: &Read) -> bool {
    read.brought == Brought::Absent || (read.at_rest && read.brought != Brought::Right)
}

fn told(read: &Read) -> String {
    format!(
        "node {} showed manifest {}@{}, and its blob {} is {:?} there: {} {}",
        read.span.node,
        read.repository,
        read.of_manifest.as_deref().unwrap_or_default(),
        read.digest,
        read.brought,
        read.status,
        read.text
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample::read;
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
}

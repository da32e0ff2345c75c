//! I9, as far as there are scopes yet: a repository gives access to the blobs that it links, and to no others.

use crate::history::{Brought, History};

/// A blob is unknown through a repository that does not link it, under any fault.
pub(super) fn check(history: &History) -> Vec<String> {
    let got = history.reads.iter().filter(|r| r.foreign && !matches!(r.brought, Brought::Absent | Brought::Nothing));
    got.map(|r| {
        format!("blob {} was read through {} at node {}, which has no link to it", r.digest, r.repository, r.span.node)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::read;
    use super::*;
    use crate::history::{Read, What};

    #[test]
    fn bytes_through_a_foreign_repository_are_found() {
        let found = |foreign, brought| {
            let read = Read { foreign, ..read(What::Blob, "a", (0, 1), brought) };
            check(&History { reads: vec![read], ..History::default() }).len()
        };
        assert_eq!(found(true, Brought::Right), 1);
        assert_eq!(found(true, Brought::Absent), 0);
        assert_eq!(found(true, Brought::Nothing), 0);
        assert_eq!(found(false, Brought::Right), 0);
    }
}

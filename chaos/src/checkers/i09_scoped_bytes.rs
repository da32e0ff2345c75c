//! I9, as far as there are scopes yet: a repository gives access to the blobs that it links, and to no others.

use crate::history::{Brought, History, Step};

/// A blob is unknown through a repository that does not link it, under any fault; and so is an upload session through
/// another repository than its own.
pub(super) fn check(history: &History) -> Vec<String> {
    let got = history.reads.iter().filter(|r| r.foreign && !matches!(r.brought, Brought::Absent | Brought::Nothing));
    let read = got.map(|r| {
        format!("blob {} was read through {} at node {}, which has no link to it", r.digest, r.repository, r.span.node)
    });
    let let_in = history.sessions.iter().filter(|s| s.step == Step::Foreign && s.status < 400);
    read.chain(let_in.map(|s| format!("session {} was shown through another repository", s.session))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{read, span};
    use super::*;
    use crate::history::{Read, SessionStep, What};

    #[test]
    fn a_session_that_another_repository_sees_is_found() {
        let found = |status| {
            let step = SessionStep { session: "s".into(), span: span(0, 1), step: Step::Foreign, status };
            check(&History { sessions: vec![step], ..History::default() }).len()
        };
        assert_eq!(found(404), 0);
        assert_eq!(found(204), 1);
    }

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

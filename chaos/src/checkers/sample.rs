//! Pieces of small histories, for the tests of the checkers.

use crate::history::{Brought, Deleted, Outcome, Pushed, Read, Span, TagAction, TagAnswer, TagOperation, What};

/// From one time to another, at node 0.
pub(super) const fn span(start: u64, end: u64) -> Span {
    Span { node: 0, start, end }
}

pub(super) fn pushed(what: What, digest: &str, at: (u64, u64), outcome: Outcome) -> Pushed {
    let acknowledged = outcome == Outcome::Ok;
    Pushed {
        what,
        repository: "r".into(),
        digest: digest.into(),
        bytes: 10,
        blobs: Vec::new(),
        span: span(at.0, at.1),
        outcome,
        status: if acknowledged { 201 } else { 504 },
        revision: acknowledged.then_some(at.1),
    }
}

pub(super) fn deleted(what: What, digest: &str, at: (u64, u64), outcome: Outcome) -> Deleted {
    let revision = (outcome == Outcome::Ok).then_some(at.1);
    Deleted {
        what,
        repository: "r".into(),
        digest: digest.into(),
        span: span(at.0, at.1),
        outcome,
        status: 202,
        revision,
    }
}

/// A read at rest.
pub(super) fn read(what: What, digest: &str, at: (u64, u64), brought: Brought) -> Read {
    Read {
        what,
        repository: "r".into(),
        digest: digest.into(),
        span: span(at.0, at.1),
        brought,
        status: if brought == Brought::Absent { 404 } else { 200 },
        range: None,
        min_revision: None,
        of_manifest: None,
        at_rest: true,
        foreign: false,
        text: String::new(),
    }
}

pub(super) fn tag(action: TagAction, answer: TagAnswer, at: (u64, u64)) -> TagOperation {
    let write = action != TagAction::Read;
    let revision = (write && answer == TagAnswer::Done).then_some(at.1);
    TagOperation {
        repository: "r".into(),
        tag: "t".into(),
        span: span(at.0, at.1),
        action,
        answer,
        revision,
        staleness_ms: Some(0),
    }
}

pub(super) fn put(digest: &str) -> TagAction {
    TagAction::Put { digest: digest.into() }
}

pub(super) fn points(digest: &str) -> TagAnswer {
    TagAnswer::Points { digest: digest.into() }
}

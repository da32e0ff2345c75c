//! I13: memory, descriptors, threads and temporary disk stay bounded.

use std::collections::HashSet;

use crate::history::{History, SessionStep, Step, Usage};

/// A node of the test profile, which is not stripped of anything.
const RESIDENT_BYTES_MAX: u64 = 640 << 20;
const DESCRIPTORS_MAX: u64 = 2_000;
const THREADS_MAX: u64 = 700;
/// Unfinished uploads of all clients, and what a pull reads through.
const TEMPORARY_BYTES_MAX: u64 = 512 << 20;

/// Every sample of every node; and, at rest, no more temporary files than there are uploads that nobody ended.
pub(super) fn check(history: &History) -> Vec<String> {
    let mut found: Vec<String> = history.usage.iter().flat_map(over).collect();
    let open = history.unfinished_before + unfinished(history);
    let kept = history.at_rest.iter().flat_map(|rest| rest.temporary.iter().enumerate());
    found.extend(kept.filter(|(_, files)| **files > open).map(|(node, files)| {
        format!("at rest node {node} has {files} temporary files, and {open} uploads are unfinished")
    }));
    found
}

/// Sessions that were opened and of whose end nobody knows.
pub(crate) fn unfinished(history: &History) -> u64 {
    let ends = |s: &&SessionStep| matches!(s.step, Step::Finished { .. } | Step::Cancelled);
    let ended: HashSet<&str> = history.sessions.iter().filter(ends).map(|s| &*s.session).collect();
    let opened = history.sessions.iter().filter(|s| s.step == Step::Opened && !ended.contains(&*s.session));
    opened.count() as u64
}

fn over(usage: &Usage) -> impl Iterator<Item = String> {
    let node = usage.node;
    let bounds = [
        ("resident bytes", usage.resident_bytes, RESIDENT_BYTES_MAX),
        ("descriptors", usage.descriptors, DESCRIPTORS_MAX),
        ("threads", usage.threads, THREADS_MAX),
        ("temporary bytes", usage.temporary_bytes, TEMPORARY_BYTES_MAX),
    ];
    bounds
        .into_iter()
        .filter(|(_, used, most)| used > most)
        .map(move |(what, used, most)| format!("node {node} has {used} {what}; at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::super::sample::span;
    use super::*;
    use crate::history::StoresAtRest;

    #[test]
    fn what_grows_beyond_its_bound_is_found() {
        let usage = Usage { node: 0, at: 0, resident_bytes: 1, descriptors: 1, threads: 1, temporary_bytes: 1 };
        let found = |usage| check(&History { usage: vec![usage], ..History::default() }).len();
        assert_eq!(found(usage), 0);
        assert_eq!(found(Usage { resident_bytes: 1 << 30, ..usage }), 1);
        assert_eq!(found(Usage { descriptors: 5_000, threads: 5_000, ..usage }), 2);
        assert_eq!(found(Usage { temporary_bytes: 1 << 30, ..usage }), 1);
    }

    #[test]
    fn temporary_files_that_nobody_needs_are_found() {
        let step = |session: &str, step| SessionStep { session: session.into(), span: span(0, 1), step, status: 202 };
        let at_rest = StoresAtRest { temporary: vec![1], ..StoresAtRest::default() };
        let mut history = History { at_rest: Some(at_rest), ..History::default() };
        assert_eq!(check(&history).len(), 1);
        history.sessions.push(step("s", Step::Opened));
        assert_eq!(check(&history).len(), 0);
        history.sessions.push(step("s", Step::Cancelled));
        assert_eq!(check(&history).len(), 1);
    }
}

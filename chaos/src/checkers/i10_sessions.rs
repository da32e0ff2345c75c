//! I10: upload sessions are bound to their repository, offsets only grow, retries are idempotent.

use std::collections::BTreeMap;

use crate::history::{History, SessionStep, Step};

/// Each session by itself.
pub(super) fn check(history: &History) -> Vec<String> {
    let mut sessions: BTreeMap<&str, Vec<&SessionStep>> = BTreeMap::new();
    for step in &history.sessions {
        sessions.entry(&step.session).or_default().push(step);
    }
    sessions.into_iter().flat_map(|(name, steps)| of_session(history, name, &steps)).collect()
}

fn of_session(history: &History, name: &str, steps: &[&SessionStep]) -> Vec<String> {
    let mut found = Vec::new();
    if owner_lived(history, steps) {
        let again = steps.iter().filter(|s| s.step == Step::FinishedAgain && s.status == 404);
        found.extend(again.map(|_| format!("session {name}: the request that finished it is forgotten")));
    }
    for (i, step) in steps.iter().enumerate() {
        let earlier =
            steps.iter().enumerate().filter(|(j, s)| *j != i && s.span.end < step.span.start).map(|(_, s)| *s);
        found.extend(fault(step, earlier).map(|why| format!("session {name}: {why}")));
    }
    found
}

fn fault<'a>(step: &SessionStep, mut earlier: impl Iterator<Item = &'a SessionStep>) -> Option<String> {
    match &step.step {
        Step::Opened | Step::FinishedAgain | Step::Lost | Step::Cancelled => None,
        Step::Misplaced => {
            (step.status < 400).then(|| format!("a chunk that begins elsewhere was taken: {}", step.status))
        }
        Step::Appended { offset } | Step::Asked { offset } => {
            let before = earlier.filter_map(|s| offset_of(&s.step)).max()?;
            (*offset < before).then(|| format!("it had {before} bytes, and then {offset}"))
        }
        Step::Finished { digest } => {
            let other = earlier.find(|s| matches!(&s.step, Step::Finished { digest: d } if d != digest))?;
            Some(format!("it was finished as {digest} and before as {:?}", other.step))
        }
        Step::Foreign => (step.status < 400).then(|| format!("another repository was let in: {}", step.status)),
    }
}

/// Whether the node that opened a session ran all the time: sessions end with it.
pub(super) fn owner_lived(history: &History, steps: &[&SessionStep]) -> bool {
    let Some(opened) = steps.iter().find(|s| s.step == Step::Opened) else { return false };
    let end = steps.iter().map(|s| s.span.end).max().unwrap_or(0);
    !history.starts.iter().any(|s| s.node == opened.span.node && s.at >= opened.span.start && s.at <= end)
}

const fn offset_of(step: &Step) -> Option<u64> {
    match step {
        Step::Appended { offset } | Step::Asked { offset } => Some(*offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::span;
    use super::*;
    use crate::history::Started;

    fn step(at: u64, step: Step, status: u16) -> SessionStep {
        SessionStep { session: "s".into(), span: span(at, at + 1), step, status }
    }

    fn found(sessions: Vec<SessionStep>) -> usize {
        check(&History { sessions, ..History::default() }).len()
    }

    #[test]
    fn offsets_only_grow() {
        let append = |at, offset| step(at, Step::Appended { offset }, 202);
        let asked = |at, offset| step(at, Step::Asked { offset }, 204);
        assert_eq!(found(vec![append(0, 10), append(2, 20), asked(4, 20)]), 0);
        assert_eq!(found(vec![append(0, 10), append(2, 20), asked(4, 10)]), 1);
        assert_eq!(found(vec![append(0, 20), append(1, 10)]), 0, "at the same time");
    }

    #[test]
    fn a_chunk_that_begins_elsewhere_is_refused() {
        assert_eq!(found(vec![step(0, Step::Misplaced, 416)]), 0);
        assert_eq!(found(vec![step(0, Step::Misplaced, 202)]), 1);
    }

    #[test]
    fn a_finish_is_remembered_for_as_long_as_the_node_lives() {
        let sessions = vec![step(0, Step::Opened, 202), step(4, Step::FinishedAgain, 404)];
        let mut history = History { sessions, ..History::default() };
        assert_eq!(check(&history).len(), 1);
        history.starts.push(Started { node: 0, at: 3, damaged: false });
        assert_eq!(check(&history).len(), 0);
        history.starts[0].node = 1;
        history.sessions[1].status = 201;
        assert_eq!(check(&history).len(), 0);
    }

    #[test]
    fn another_repository_is_refused_and_a_finish_is_one() {
        assert_eq!(found(vec![step(0, Step::Foreign, 404)]), 0);
        assert_eq!(found(vec![step(0, Step::Foreign, 204)]), 1);
        let finished = |at, digest: &str| step(at, Step::Finished { digest: digest.into() }, 201);
        assert_eq!(found(vec![finished(0, "a"), finished(2, "a")]), 0);
        assert_eq!(found(vec![finished(0, "a"), finished(2, "b")]), 1);
    }
}

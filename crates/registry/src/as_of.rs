//! As of when an answer is. A view of the state may be newer when the answer is sent than it was when it was read: what
//! the answer says of its age is noted by the reads that it is made of.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::Freshness;

/// What the reads behind an answer have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    /// There was no read.
    #[default]
    Unread,
    /// A view of unknown age was read.
    Unknown,
    /// All that was committed by then was seen by the first read, and so by all others.
    Moment(Instant),
}

impl AsOf {
    /// How old what was read may be by now, or what a view of this freshness is if nothing was read; `None` is unknown.
    pub fn staleness(self, now: &Freshness) -> Option<Duration> {
        match self {
            Self::Unread => now.staleness,
            Self::Unknown => None,
            Self::Moment(moment) => Some(moment.elapsed()),
        }
    }

    fn seen(freshness: impl FnOnce() -> Freshness) -> Self {
        // Before the age is told, or the moment would be too late by as long as that takes.
        let now = Instant::now();
        let staleness = freshness().staleness;
        staleness.and_then(|staleness| now.checked_sub(staleness)).map_or(Self::Unknown, Self::Moment)
    }
}

tokio::task_local! {
    static NOTED: Cell<AsOf>;
}

/// Makes an answer, and tells as of when it is. What it reads in other tasks does not count.
pub async fn as_of<F: Future>(answer: F) -> (F::Output, AsOf) {
    let mut answer = std::pin::pin!(NOTED.scope(Cell::default(), answer));
    let output = answer.as_mut().await;
    let noted = answer.as_mut().take_value().unwrap_or_default();
    (output, noted.get())
}

/// Notes a view that is about to be read: the first one of an answer is the oldest.
pub(crate) fn note(freshness: impl FnOnce() -> Freshness) {
    let _ = NOTED.try_with(|noted| {
        if noted.get() == AsOf::Unread {
            noted.set(AsOf::seen(freshness));
        }
    });
}

/// What was noted until now.
pub(crate) fn noted() -> AsOf {
    NOTED.try_with(Cell::get).unwrap_or_default()
}

/// Forgets what was noted after `before`: nothing of it goes into the answer, and it is read again.
pub(crate) fn forget_since(before: AsOf) {
    let _ = NOTED.try_with(|noted| noted.set(before));
}

#[cfg(test)]
mod tests {
    use atoll_types::Revision;

    use super::*;
    use crate::Mode;

    fn fresh(staleness: Option<Duration>) -> Freshness {
        Freshness { applied: Revision(1), mode: Mode::ReadWrite, staleness, read_only_since: None }
    }

    const OLD: Duration = Duration::from_secs(3);
    const NEW: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_as_old_as_its_first_read_however_new_the_view_is_by_then() {
        let answer = async {
            note(|| fresh(Some(OLD)));
            tokio::time::sleep(Duration::from_secs(1)).await;
            note(|| fresh(Some(NEW)));
        };
        let ((), seen) = as_of(answer).await;
        assert_eq!(seen.staleness(&fresh(Some(NEW))), Some(OLD + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_again_counts_anew() {
        let answer = async {
            let before = noted();
            note(|| fresh(Some(OLD)));
            forget_since(before);
            note(|| fresh(Some(NEW)));
        };
        assert_eq!(as_of(answer).await.1.staleness(&fresh(None)), Some(NEW));
    }

    #[tokio::test]
    async fn unknown_stays_unknown_and_what_reads_nothing_is_as_old_as_the_view() {
        let ((), seen) = as_of(async { note(|| fresh(None)) }).await;
        assert_eq!((seen, seen.staleness(&fresh(Some(NEW)))), (AsOf::Unknown, None));
        let ((), seen) = as_of(async {}).await;
        assert_eq!(seen.staleness(&fresh(Some(NEW))), Some(NEW));
    }
}

//! What a connection is doing: whether a request is under way on it, and since when not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Of one connection; clones are the same.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

struct State {
    /// Requests whose head is here and whose answer is not all handed on.
    requests: usize,
    /// When the last of them ended, or the connection began.
    idle_since: Instant,
    /// When the first bytes came that are of no request yet.
    head_since: Option<Instant>,
}

/// A request under way.
pub(crate) struct Busy(Activity);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { requests: 0, idle_since: Instant::now(), head_since: None })))
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self) {
        let mut state = self.0.lock();
        if state.requests == 0 {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// The head of a request is here.
    pub(crate) fn begin(&self) -> Busy {
        let mut state = self.0.lock();
        state.requests += 1;
        state.head_since = None;
        Busy(self.clone())
    }

    /// Since when bytes have come that are not a whole head yet.
    pub(crate) fn head_since(&self) -> Option<Instant> {
        self.0.lock().head_since
    }

    /// Waits until there has been no request for so long.
    pub(crate) async fn idle_for(&self, time: Duration) {
        self.idle_after(None, time).await;
    }

    /// Waits until there has been no request for so long from now on.
    pub(crate) async fn idle_from_now_for(&self, time: Duration) {
        self.idle_after(Some(Instant::now()), time).await;
    }

    async fn idle_after(&self, from: Option<Instant>, time: Duration) {
        loop {
            let now = Instant::now();
            let due = {
                let state = self.0.lock();
                if state.requests == 0 { from.max(Some(state.idle_since)).unwrap_or(now) + time } else { now + time }
            };
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.requests -= 1;
        state.idle_since = Instant::now();
    }
}

/// The body of an answer: the request is under way for as long as it lives.
pub(crate) struct BusyBody {
    inner: Body,
    _busy: Busy,
}

impl BusyBody {
    pub(crate) fn new(inner: Body, busy: Busy) -> Self {
        Self { inner, _busy: busy }
    }
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_goodbye_is_counted_from_when_it_is_said() {
        const TIME: Duration = Duration::from_millis(30);
        let activity = Activity::new();
        activity.idle_for(TIME).await;
        let said = Instant::now();
        activity.idle_from_now_for(TIME).await;
        assert!(said.elapsed() >= TIME);
        let busy = activity.begin();
        let waiting = tokio::time::timeout(TIME * 5, activity.idle_from_now_for(TIME)).await;
        assert!(waiting.is_err(), "a request that is under way is waited for");
        drop(busy);
        activity.idle_from_now_for(TIME).await;
    }
}

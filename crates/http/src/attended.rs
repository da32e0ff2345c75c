//! Response bodies that are given up when their client stops asking for more.
//!
//! On HTTP/1.1 a client that takes nothing stalls its connection, which [`crate::stall`] sees. On HTTP/2 it can keep the
//! connection alive and just never open one stream's window: the body is then never polled again, and what it holds
//! (a place, a file, a fetch from another region) must be taken from it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Bodies of at most this size are not attended: they hold little, and fit into the first window.
const UNATTENDED_BYTES_MAX: u64 = 64 << 10;
/// Bodies are handed on in pieces of at most this size: so much is what a client must take in one turn.
const PIECE_BYTES_MAX: usize = 32 << 10;

/// A body that holds its request's place until it was sent or given up.
pub(crate) struct Attended {
    slot: Arc<Mutex<Slot>>,
    /// Its drop ends the watch.
    _watched: Option<oneshot::Sender<()>>,
}

struct Slot {
    held: Option<(Body, OwnedSemaphorePermit)>,
    /// Of the body's last frame, what was not handed on yet.
    rest: Bytes,
    /// Since when it is the client's turn; `None` while the client waits for its source.
    turn: Option<Instant>,
}

impl Slot {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some((body, _)) = &mut self.held else {
            return Poll::Ready(Some(Err(axum::Error::new("the client took no bytes for too long"))));
        };
        if self.rest.is_empty() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

impl Attended {
    /// Attends a body; one that its client does not ask for during `patience` is given up.
    pub(crate) fn new(body: Body, place: OwnedSemaphorePermit, patience: Duration, tasks: &TaskTracker) -> Self {
        let small = body.size_hint().upper().is_some_and(|bytes| bytes <= UNATTENDED_BYTES_MAX);
        let slot =
            Arc::new(Mutex::new(Slot { held: Some((body, place)), rest: Bytes::new(), turn: Some(Instant::now()) }));
        let watched = (!small).then(|| {
            let (sender, ended) = oneshot::channel();
            tasks.spawn(watch(slot.clone(), patience, ended));
            sender
        });
        Self { slot, _watched: watched }
    }
}

async fn watch(slot: Arc<Mutex<Slot>>, patience: Duration, mut ended: oneshot::Receiver<()>) {
    let mut next = Instant::now() + patience;
    loop {
        tokio::select! {
            _ = &mut ended => return,
            () = tokio::time::sleep_until(next) => {}
        }
        let now = Instant::now();
        let mut slot = slot.lock();
        next = slot.turn.map_or(now, |turn| turn) + patience;
        if next <= now {
            (slot.held, slot.rest) = (None, Bytes::new());
            return;
        }
    }
}

impl HttpBody for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut slot = self.slot.lock();
        let frame = slot.poll_piece(cx);
        slot.turn = frame.is_ready().then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.slot.lock();
        slot.rest.is_empty() && slot.held.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let slot = self.slot.lock();
        let Some((body, _)) = &slot.held else { return SizeHint::default() };
        let (inner, rest, mut hint) = (body.size_hint(), slot.rest.len() as u64, SizeHint::new());
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    const PATIENCE: Duration = Duration::from_millis(30);

    async fn attended(body: Body) -> (Attended, Arc<Semaphore>, TaskTracker) {
        let (places, tasks) = (Arc::new(Semaphore::new(1)), TaskTracker::new());
        let place = places.clone().acquire_owned().await.unwrap();
        (Attended::new(body, place, PATIENCE, &tasks), places, tasks)
    }

    fn endless() -> Body {
        Body::from_stream(futures::stream::repeat(Bytes::from_static(b"x")).map(Ok::<_, std::io::Error>))
    }

    #[tokio::test]
    async fn a_body_that_nobody_asks_for_gives_its_place_back() {
        let (mut body, places, tasks) = attended(endless()).await;
        assert!(body.frame().await.unwrap().is_ok());
        let place = tokio::time::timeout(Duration::from_secs(60), places.acquire()).await;
        drop(place.expect("the place is free").unwrap());
        assert!(body.frame().await.unwrap().is_err());
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn a_large_frame_is_handed_on_in_pieces_so_that_a_slow_client_makes_progress() {
        let whole: Vec<u8> = (0..PIECE_BYTES_MAX * 5 + 7).map(|n| n as u8).collect();
        let frame = Bytes::from(whole.clone());
        let source = Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(frame)]));
        let (places, tasks) = (Arc::new(Semaphore::new(1)), TaskTracker::new());
        let place = places.acquire_owned().await.unwrap();
        let mut body = Attended::new(source, place, Duration::from_secs(60), &tasks);
        let mut got = Vec::new();
        while let Some(piece) = body.frame().await {
            let piece = piece.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES_MAX && !piece.is_empty());
            got.extend_from_slice(&piece);
            assert!(got.len() == whole.len() || !body.is_end_stream());
            assert!(body.size_hint().lower() <= (whole.len() - got.len()) as u64);
        }
        assert_eq!(got, whole);
    }

    #[tokio::test]
    async fn a_client_that_waits_for_its_source_is_not_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let (mut body, places, tasks) = attended(never).await;
        assert!(body.frame().now_or_never().is_none());
        let place = tokio::time::timeout(PATIENCE * 5, places.acquire()).await;
        assert!(place.is_err(), "it is the source's turn");
        drop(body);
        tasks.close();
        tokio::time::timeout(Duration::from_secs(60), tasks.wait()).await.expect("the watch ends with the body");
    }
}

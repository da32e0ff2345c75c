//! Answers that are given up when their client stops asking for more.
//!
//! A client can take nothing of an answer and still keep its connection alive: on HTTP/2 it just never opens the
//! stream's window. The body is then never polled again, however small it is, and what it holds (a place, a file, a
//! fetch from another region) must be taken from it. No body can do that itself, so whatever hands bodies on runs in
//! [`while_taken`]: a whole connection of HTTP/1.1, which has one body at a time, and each stream of HTTP/2.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Bodies are handed on in pieces of at most this size: so much is what a client must take in one turn.
const PIECE_BYTES_MAX: usize = 32 << 10;

tokio::task_local! {
    /// Of the exchange that runs.
    static TURN: Turn;
}

/// When the client of an exchange has had its time; nothing while it waits itself.
#[derive(Clone, Default)]
struct Turn(Arc<Mutex<Option<Instant>>>);

/// Runs an exchange for as long as its client takes the bodies that it is handed. `None`: the client has not, and the
/// exchange was dropped, with all that it held.
pub(crate) async fn while_taken<E: Future>(exchange: E) -> Option<E::Output> {
    let turn = Turn::default();
    let mut exchange = pin!(TURN.scope(turn.clone(), exchange));
    let mut sleep = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        if let Poll::Ready(output) = exchange.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // Only the exchange hands bodies on: between two of its turns nothing changes here.
        let Some(due) = *turn.0.lock() else { return Poll::Pending };
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// A body that says whose turn it is.
pub(crate) struct Attended {
    body: Body,
    /// Of the body's last frame, what was not handed on yet.
    rest: Bytes,
    patience: Duration,
    turn: Option<Turn>,
}

impl Attended {
    /// Attends a body; the exchange in which its client asks for nothing during `patience` is given up.
    pub(crate) fn new(body: Body, patience: Duration) -> Self {
        // An empty body is never waited with; and in tests of the router alone nothing runs in an exchange.
        let turn = if body.is_end_stream() { None } else { TURN.try_with(Clone::clone).ok() };
        let attended = Self { body, rest: Bytes::new(), patience, turn };
        attended.turn_of_client(true);
        attended
    }

    fn turn_of_client(&self, is: bool) {
        if let Some(turn) = &self.turn {
            *turn.0.lock() = is.then(|| Instant::now() + self.patience);
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
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

impl HttpBody for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = self.poll_piece(cx);
        self.turn_of_client(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest, mut hint) = (self.body.size_hint(), self.rest.len() as u64, SizeHint::new());
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.turn_of_client(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use http_body_util::BodyExt;
    use std::future::pending;
    use tokio::time::{sleep, timeout};

    const PATIENCE: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    fn endless() -> Body {
        Body::from_stream(futures::stream::repeat(Bytes::from_static(b"x")).map(Ok::<_, std::io::Error>))
    }

    #[tokio::test]
    async fn a_body_that_nobody_asks_for_ends_its_exchange() {
        for (body, asked) in [(endless(), 3), (endless(), 0), (Body::from("small"), 1)] {
            let exchange = while_taken(async {
                let mut body = Attended::new(body, PATIENCE);
                for _ in 0..asked {
                    assert!(body.frame().await.unwrap().is_ok());
                }
                pending::<()>().await;
            });
            assert!(timeout(LONG, exchange).await.expect("it is given up").is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_was_taken_ends_nothing() {
        let exchange = while_taken(async {
            for _ in 0..3 {
                let body = Attended::new(Body::from("small"), PATIENCE);
                sleep(PATIENCE / 3).await;
                body.collect().await.unwrap();
            }
            let _empty = Attended::new(Body::empty(), PATIENCE);
            sleep(PATIENCE * 3).await;
        });
        assert!(exchange.await.is_some());
    }

    #[tokio::test]
    async fn a_client_that_waits_for_its_source_is_not_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let exchange = while_taken(async { Attended::new(never, PATIENCE).frame().await.is_some() });
        assert!(timeout(PATIENCE * 5, exchange).await.is_err(), "it is the source's turn");
    }

    #[tokio::test]
    async fn a_large_frame_is_handed_on_in_pieces_so_that_a_slow_client_makes_progress() {
        let whole: Vec<u8> = (0..PIECE_BYTES_MAX * 5 + 7).map(|n| n as u8).collect();
        let frame = Bytes::from(whole.clone());
        let source = Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(frame)]));
        let mut body = Attended::new(source, LONG);
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
}

//! Bodies: requests are read with a bound on size or on idleness, responses have exactly the length they announce.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_blobstore::ByteStream;
use atoll_registry::RegistryError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderMap, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::held::{Held, Part};

/// Bytes of a refused request's body that are read and thrown away: a connection closed with unread bytes is reset,
/// and a reset can destroy the answer before the client has read it.
const DRAIN_BYTES_MAX: u64 = 16 << 20;
/// For how long.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// What a client must send within the time that it may be idle, in bytes: whoever trickles is as good as silent.
const PROGRESS_BYTES_MIN: u64 = 1 << 10;

/// How long a body that is held whole may take to come.
const COLLECT_TIME: Duration = Duration::from_secs(60);

/// A body, and the memory that it takes: to be kept for as long as its bytes are.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) bytes: Bytes,
    pub(crate) part: Part,
}

/// A request's body. What nobody has read when it is dropped is drained, within bounds, by a tracked task.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Option<Body>,
    /// Content-Length, where there is one.
    length: Option<u64>,
    idle: Duration,
    progress: Progress,
    drains: Option<TaskTracker>,
}

/// How long a client was waited for, and what it sent meanwhile. What this node takes itself does not count.
#[derive(Debug, Default)]
struct Progress {
    waited: Duration,
    bytes: u64,
}

impl Progress {
    fn made(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes >= PROGRESS_BYTES_MIN {
            *self = Self::default();
        }
    }
}

fn slow(idle: Duration) -> std::io::Error {
    let detail = format!("fewer than {PROGRESS_BYTES_MIN} bytes came within {idle:?}; go on from the session's offset");
    std::io::Error::new(std::io::ErrorKind::TimedOut, detail)
}

impl RequestBody {
    /// Takes a request's body in. A client that is waited for during `idle` and sends next to nothing ends it.
    pub(crate) fn new(body: Body, headers: &HeaderMap, idle: Duration, tasks: &TaskTracker) -> Self {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        // Reading would ask the client for what it has not begun to send.
        let drains = (!headers.contains_key(header::EXPECT)).then(|| tasks.clone());
        Self { body: Some(body), length, idle, progress: Progress::default(), drains }
    }

    /// Content-Length, where there is one.
    pub(crate) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// True when there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    /// The next piece.
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        let body = self.body.as_mut()?;
        loop {
            let start = Instant::now();
            let waited = timeout(self.idle.saturating_sub(self.progress.waited), body.frame()).await;
            return match waited {
                Err(_) => self.end(slow(self.idle)),
                Ok(Some(Err(error))) => self.end(std::io::Error::other(error)),
                Ok(None) => None,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.progress.made(start.elapsed(), data.len() as u64);
                        Some(Ok(data))
                    }
                    Err(_trailers) => continue,
                },
            };
        }
    }

    /// A body that failed is not drained.
    fn end(&mut self, error: std::io::Error) -> Option<Result<Bytes, std::io::Error>> {
        self.body = None;
        Some(Err(error))
    }

    /// All of it, if it has at most `limit` bytes and comes within [`COLLECT_TIME`]. What has come takes its part of
    /// `held`, so that a client that is slow holds no more than it has sent.
    pub(crate) async fn collect(mut self, limit: u64, held: &Held) -> Result<Collected, RegistryError> {
        let too_large = |actual| Err(RegistryError::ManifestTooLarge { actual, limit });
        if let Some(length) = self.length.filter(|length| *length > limit) {
            return too_large(length);
        }
        let until = Instant::now() + COLLECT_TIME;
        let late = |_| RegistryError::BodyTorn(format!("the body did not come within {COLLECT_TIME:?}; send it again"));
        let (mut bytes, mut part) = (BytesMut::new(), held.part());
        while let Some(piece) = timeout_at(until, self.next()).await.map_err(late)? {
            let piece = piece.map_err(|e| RegistryError::BodyTorn(e.to_string()))?;
            let length = bytes.len() + piece.len();
            if length as u64 > limit {
                return too_large(length as u64);
            }
            timeout_at(until, part.grow_to(length)).await.map_err(late)??;
            bytes.extend_from_slice(&piece);
        }
        Ok(Collected { bytes: bytes.freeze(), part })
    }

    /// Its pieces as they come; an error ends them.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        futures::stream::unfold(self, |mut body| async move { body.next().await.map(|piece| (piece, body)) })
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let (Some(body), Some(tasks)) = (self.body.take(), self.drains.take()) else { return };
        if !body.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            tasks.spawn_on(timeout(DRAIN_TIME, drain(body)), &runtime);
        }
    }
}

async fn drain(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > DRAIN_BYTES_MAX {
            return;
        }
    }
}

/// Bytes that were promised by a Content-Length: fewer or more are an error, which cuts the connection, so that no
/// client takes a truncated blob for a whole one.
pub(crate) struct ExactBody {
    stream: ByteStream,
    left: u64,
}

impl ExactBody {
    /// A body of exactly `length` bytes.
    pub(crate) fn new(stream: ByteStream, length: u64) -> Self {
        Self { stream, left: length }
    }

    fn take(&mut self, bytes: Bytes) -> Result<Frame<Bytes>, std::io::Error> {
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(std::io::Error::other("the source of a blob had more bytes than it has")),
        }
        Ok(Frame::data(bytes))
    }
}

impl HttpBody for ExactBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.stream.poll_next_unpin(cx).map(|next| match next {
            Some(Ok(bytes)) => Some(self.take(bytes)),
            Some(Err(error)) => Some(Err(failed(&error))),
            None => Some(Err(failed(&"its source ended early"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn failed(error: &dyn std::fmt::Display) -> std::io::Error {
    tracing::warn!(%error, "a blob could not be sent to its end; the connection is cut");
    std::io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(parts: &'static [&'static str]) -> ByteStream {
        futures::stream::iter(parts.iter().map(|p| Ok(Bytes::from_static(p.as_bytes())))).boxed()
    }

    fn request(body: Body, idle: Duration) -> (RequestBody, TaskTracker) {
        let tasks = TaskTracker::new();
        (RequestBody::new(body, &HeaderMap::new(), idle, &tasks), tasks)
    }

    #[tokio::test]
    async fn a_body_has_exactly_the_length_that_it_announced() {
        let whole = ExactBody::new(pieces(&["ab", "c"]), 3).collect().await.unwrap().to_bytes();
        assert_eq!(&whole[..], b"abc");
        assert!(ExactBody::new(pieces(&["ab"]), 3).collect().await.is_err(), "too short");
        assert!(ExactBody::new(pieces(&["abcd"]), 3).collect().await.is_err(), "too long");
    }

    #[tokio::test]
    async fn a_body_is_collected_up_to_its_limit() {
        let (body, _) = request(Body::from("abc"), Duration::from_secs(60));
        assert_eq!(&body.collect(3, &Held::new("others")).await.unwrap().bytes[..], b"abc");
        let (body, _) = request(Body::from("abcd"), Duration::from_secs(60));
        assert!(matches!(
            body.collect(3, &Held::new("others")).await,
            Err(RegistryError::ManifestTooLarge { limit: 3, .. })
        ));
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let (body, _) = request(never, Duration::from_millis(20));
        assert!(matches!(body.collect(3, &Held::new("others")).await, Err(RegistryError::BodyTorn(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_given_up_in_the_end() {
        let trickle = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 2048])), ()))
        });
        let (body, _) = request(Body::from_stream(trickle), Duration::from_secs(60));
        let start = Instant::now();
        assert!(matches!(body.collect(1 << 20, &Held::new("others")).await, Err(RegistryError::BodyTorn(_))));
        assert_eq!(start.elapsed().as_secs(), COLLECT_TIME.as_secs());
    }

    #[tokio::test]
    async fn what_nobody_read_is_drained() {
        let (sent, mut seen) = tokio::sync::mpsc::channel(1);
        let stream = futures::stream::unfold(0, move |n| {
            let sent = sent.clone();
            async move {
                sent.send(n).await.ok()?;
                (n < 3).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"x")), n + 1))
            }
        });
        let (body, tasks) = request(Body::from_stream(stream), Duration::from_secs(60));
        drop(body);
        for n in 0..=3 {
            assert_eq!(seen.recv().await, Some(n));
        }
        tasks.close();
        tasks.wait().await;
    }
}

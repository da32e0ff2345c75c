//! One connection to a registry that stays open: for loading, for pushes and for checks. Pulls are measured by wrk.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longer than any request here takes; a server that hangs ends the row.
const DEADLINE: Duration = Duration::from_secs(120);

/// A put of a hundred tags is answered with a header for each.
const HEADERS_MAX: usize = 256;

/// A body of known length, in pieces that are made as they are sent.
pub(crate) struct Payload {
    frames: Box<dyn Iterator<Item = Bytes> + Send>,
    left: u64,
}

impl Payload {
    pub(crate) fn empty() -> Self {
        Self { frames: Box::new(std::iter::empty()), left: 0 }
    }

    pub(crate) fn whole(bytes: &Bytes) -> Self {
        Self::of(VecDeque::from([bytes.clone()]).into_iter(), bytes.len() as u64)
    }

    /// `len` must be the sum of the frames' lengths.
    pub(crate) fn of(frames: impl Iterator<Item = Bytes> + Send + 'static, len: u64) -> Self {
        Self { frames: Box::new(frames), left: len }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.frames.next();
        self.left -= next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A connection.
pub(crate) struct Client {
    sender: SendRequest<Payload>,
    address: SocketAddr,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new().max_headers(HEADERS_MAX).handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what went wrong is told by the request that it hits.
        tokio::spawn(connection);
        Ok(Self { sender, address })
    }

    /// Sends a request and takes the whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        payload: Payload,
    ) -> anyhow::Result<Answer> {
        let whole = async {
            let response = self.open(method.clone(), path, headers, payload).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let answer = tokio::time::timeout(DEADLINE, whole).await;
        answer
            .with_context(|| format!("no answer within {DEADLINE:?}"))
            .flatten()
            .with_context(|| format!("{method} {path} at {}", self.address))
    }

    /// Sends a request; the body of the answer is read by the caller.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        payload: Payload,
    ) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(self.sender.send_request(request.body(payload)?).await?)
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.ask(Method::GET, path, &[], Payload::empty()).await
    }

    /// Sends a request whose answer must have the status.
    pub(crate) async fn expect(
        &mut self,
        status: StatusCode,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        payload: Payload,
    ) -> anyhow::Result<Answer> {
        let answer = self.ask(method.clone(), path, headers, payload).await?;
        if answer.status != status {
            let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
            bail!("{method} {path} at {}: {} instead of {status}: {body}", self.address, answer.status);
        }
        Ok(answer)
    }
}

/// Path and query of a `Location`, which may or may not name the host.
pub(crate) fn path_of(location: &str) -> anyhow::Result<String> {
    let uri: Uri = location.parse().with_context(|| format!("Location {location:?} is no URI"))?;
    Ok(uri.path_and_query().map_or("/", |path| path.as_str()).to_owned())
}

/// A path with one more parameter.
pub(crate) fn with_parameter(path: &str, name: &str, value: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{name}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_with_and_without_a_host_are_understood() {
        assert_eq!(path_of("http://127.0.0.1:5/v2/a/u/1?_state=x").unwrap(), "/v2/a/u/1?_state=x");
        assert_eq!(path_of("/v2/a/u/1").unwrap(), "/v2/a/u/1");
        assert_eq!(with_parameter("/u?_state=x", "digest", "sha256:1"), "/u?_state=x&digest=sha256:1");
        assert_eq!(with_parameter("/u", "digest", "sha256:1"), "/u?digest=sha256:1");
    }
}

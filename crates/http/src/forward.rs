//! Hands requests of an upload session to the node that owns it, streaming both ways.

use std::sync::Arc;
use std::time::Duration;

use atoll_types::NodeId;
use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ApiError;
use crate::body::RequestBody;
use crate::config::RequestLimits;
use crate::headers::{ATOLL_CLIENT_ADDRESS, ATOLL_FORWARDED_BY};

/// Headers that are about one connection, not about the request (RFC 9110, section 7.6.1); and `Expect`, which this
/// node has answered by reading the body.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// What is answered from memory is answered within this time.
const SHORT_ANSWER: Duration = Duration::from_secs(5);
/// Connections to one node that are kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// A client of the other nodes.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    client: Client<HttpConnector, Body>,
    node: NodeId,
    idle: Duration,
}

impl Forwarder {
    /// Forwards in the name of a node.
    pub(crate) fn new(node: NodeId, limits: &RequestLimits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(limits.forward_connect));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { client, node, idle: limits.forward_idle }
    }

    /// Sends a request on to a node at an address, and its answer back. A node that can be asked but then neither
    /// takes bytes nor answers is given up.
    pub(crate) async fn send(
        &self,
        (owner, address): (NodeId, &str),
        client: &str,
        parts: &Parts,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let progress = Arc::new(Progress::new());
        let carries = matches!(parts.method, Method::PATCH | Method::PUT);
        let patience = if carries { self.idle } else { self.idle.min(SHORT_ANSWER) };
        let request = self.request(address, parts, body, &progress).map(|mut request| {
            // Overwrites what a client may have put there.
            let client = HeaderValue::from_str(client).unwrap_or(HeaderValue::from_static(""));
            request.headers_mut().insert(ATOLL_CLIENT_ADDRESS, client);
            request
        });
        let unreachable = |reason: String| ApiError::OwnerUnreachable { node: owner, reason };
        let request = request.map_err(|e| unreachable(e.to_string()))?;
        let answer = tokio::select! {
            answer = self.client.request(request) => answer.map_err(|e| (e.is_connect(), describe(&e))),
            () = progress.stalls(patience) => Err((false, format!("nothing moved for {patience:?}"))),
        };
        match answer {
            Ok(answer) => Ok(strip(answer.map(Body::new))),
            // Only a PUT can have written something that others see.
            Err((false, reason)) if parts.method == Method::PUT => Err(ApiError::OwnerSilent { node: owner, reason }),
            Err((_, reason)) => Err(unreachable(reason)),
        }
    }

    fn request(
        &self,
        address: &str,
        parts: &Parts,
        body: RequestBody,
        progress: &Arc<Progress>,
    ) -> Result<Request<Body>, http::Error> {
        let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let uri = Uri::builder().scheme("http").authority(address).path_and_query(target).build()?;
        let mut headers = end_to_end(&parts.headers);
        headers.remove(header::HOST);
        headers.insert(ATOLL_FORWARDED_BY, HeaderValue::from(self.node.0));
        let mut request = Request::new(body_of(body, progress));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn body_of(body: RequestBody, progress: &Arc<Progress>) -> Body {
    if body.is_empty() {
        return Body::empty();
    }
    let progress = progress.clone();
    Body::from_stream(futures::StreamExt::inspect(body.into_stream(), move |_| progress.moved()))
}

/// The whole chain of causes: the outermost says too little.
fn describe(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The headers that go on to the next node: neither the fixed hop-by-hop ones nor those that `Connection` names.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    for name in named.flat_map(|v| v.split(',')).filter_map(|n| n.trim().parse::<HeaderName>().ok()) {
        kept.remove(name);
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

fn strip(mut answer: Response) -> Response {
    *answer.headers_mut() = end_to_end(answer.headers());
    *answer.version_mut() = Version::default();
    answer
}

/// When bytes last went on.
struct Progress(Mutex<Instant>);

impl Progress {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn moved(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Returns once nothing has moved for `idle`.
    async fn stalls(&self, idle: Duration) {
        loop {
            let end = *self.0.lock() + idle;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_stay_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("content-range", "0-9"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let kept = end_to_end(&headers);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-range"]);
    }

    #[tokio::test]
    async fn a_stall_is_counted_from_the_last_movement() {
        let (progress, patience) = (Progress::new(), Duration::from_millis(30));
        for _ in 0..3 {
            let start = Instant::now();
            progress.moved();
            progress.stalls(patience).await;
            assert!(start.elapsed() >= patience);
        }
    }
}

//! The stack that every request goes through: one vertical list. What stands above sees what stands below, refusals and panics included.

use std::any::Any;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use atoll_registry::{Freshness, Mode, as_of};
use atoll_telemetry::{RequestSample, set_trace_parent};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Method, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tracing::{Instrument, Span, field};

use crate::app::Place;
use crate::attended::Attended;
use crate::body::RequestBody;
use crate::handlers::dispatch;
use crate::headers::{ATOLL_STALENESS_MS, DOCKER_API_VERSION};
use crate::route::{InvalidPath, Route};
use crate::{ApiError, App, Peer};

/// Longest path in logs and spans: more than the longest name with the longest digest.
const LOGGED_PATH_CHARS_MAX: usize = 512;

/// The route of a request, parsed once.
#[derive(Clone, Debug)]
pub(crate) struct Parsed(pub(crate) Result<Route, InvalidPath>);

/// The whole API as a service.
pub fn router(app: Arc<App>) -> Router {
    Router::new().fallback(observe).with_state(app)
}

/// A span, a log line and metrics for each request. Outermost, so that they know the status that the client gets.
///
/// From here on each function of the stack calls the one below it. Layers of tower would cost every request a clone of all
/// below each of them and an allocation.
async fn observe(State(app): State<Arc<App>>, mut request: Request) -> Response {
    let start = Instant::now();
    let parsed = Route::parse(request.uri().path());
    let route = parsed.as_ref().map_or("_unknown", Route::template);
    let (method, path) = (method_label(request.method()), shortened(request.uri().path()).to_owned());
    let client = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let span = span_of(&request, method, route, &path, client);
    request.extensions_mut().insert(Parsed(parsed));
    // Above all that can refuse: every answer, whatever made it, carries the version and the staleness.
    let (response, place) = stamp(&app, request).instrument(span.clone()).await;
    let sample = RequestSample { method, route, status: response.status().as_u16(), duration: start.elapsed() };
    span.record("http.response.status_code", sample.status);
    let staleness_ms = stated_staleness(&response);
    app.metrics.record_request(sample);
    response.map(|body| {
        let inner = Attended::new(body, app.config.limits.body_idle);
        Body::new(Observed {
            inner,
            bytes: 0,
            path,
            client,
            staleness_ms,
            start,
            sample,
            _place: place,
            _span: span,
            app,
        })
    })
}

fn span_of(request: &Request, method: &'static str, route: &'static str, path: &str, client: Option<IpAddr>) -> Span {
    let span = tracing::info_span!(
        "request",
        otel.name = field::display(format_args!("{method} {route}")),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        url.path = path,
        client.address = client.map(field::display),
        http.response.status_code = field::Empty,
    );
    if let Some(parent) = request.headers().get("traceparent").and_then(|v| v.to_str().ok()) {
        set_trace_parent(&span, parent);
    }
    span
}

/// What of a path stands in logs and spans: a client must not fill them. A valid path is shorter.
fn shortened(path: &str) -> &str {
    path.char_indices().nth(LOGGED_PATH_CHARS_MAX).map_or(path, |(end, _)| &path[..end])
}

/// The method, from a bounded set.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// What every answer says of the node that gives it. With it comes the place of the request.
async fn stamp(app: &Arc<App>, request: Request) -> (Response, Option<Place>) {
    let head = request.method() == Method::HEAD;
    let reads = head || request.method() == Method::GET;
    // Below what observes and stamps, which then see a panic as the 500 that it becomes.
    let (answered, as_of) = as_of(AssertUnwindSafe(admit(app, request)).catch_unwind()).await;
    let (mut response, place) = answered.unwrap_or_else(|panic| (panicked(&*panic), None));
    let (mut freshness, headers) = (app.freshness(), response.headers_mut());
    if reads {
        freshness.staleness = as_of.staleness(&freshness);
    }
    headers.insert(DOCKER_API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(ATOLL_STALENESS_MS, staleness(&freshness));
    if let Some(warning) = warning(app.config.region.as_str(), &freshness) {
        headers.insert(header::WARNING, warning);
    }
    (if head { without_body(response) } else { response }, place)
}

/// The answer to a HEAD: the headers of the GET, its length included, and nothing else.
fn without_body(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact()
        && length > 0
        && !response.headers().contains_key(header::CONTENT_LENGTH)
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|_| Body::empty())
}

/// `unknown`, or milliseconds rounded up: what is stated is never below the truth.
fn staleness(freshness: &Freshness) -> HeaderValue {
    freshness.staleness.map_or(HeaderValue::from_static("unknown"), |age| {
        HeaderValue::from(u64::try_from(age.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    })
}

/// The staleness that an answer states, for the log.
fn stated_staleness(response: &Response) -> Option<u64> {
    response.headers().get(ATOLL_STALENESS_MS)?.to_str().ok()?.parse().ok()
}

/// In read-only mode: why, and since when.
fn warning(region: &str, freshness: &Freshness) -> Option<HeaderValue> {
    if freshness.mode == Mode::ReadWrite {
        return None;
    }
    let since = freshness.read_only_since.and_then(|since| {
        let seconds = since.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        Some(jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
    });
    let since = since.map_or(String::new(), |since| format!(" since {since}"));
    HeaderValue::try_from(format!("299 - \"region {region} is read-only: no quorum{since}\"")).ok()
}

/// The answer to a request whose handler panicked. What the panic said went to standard error already.
fn panicked(panic: &(dyn Any + Send)) -> Response {
    let why = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(why = why.unwrap_or("unknown"), "a request's handler panicked");
    ApiError::Panic.into_response()
}

/// Bounds the requests that are served at once: what is refused here is read away at most, and is still counted and
/// stamped. Health is always told: it is asked for just when a node is busy.
async fn admit(app: &Arc<App>, mut request: Request) -> (Response, Option<Place>) {
    if matches!(request.extensions().get(), Some(Parsed(Ok(Route::Live | Route::Ready)))) {
        return (dispatch(app.clone(), request).await, None);
    }
    match app.requests.clone().try_acquire_owned() {
        Ok(place) => {
            let place = Place::new(place);
            request.extensions_mut().insert(place.clone());
            (dispatch(app.clone(), request).await, Some(place))
        }
        Err(_) => {
            let (parts, body) = request.into_parts();
            // Its drop drains it: with unread bytes the connection would be reset, and the answer lost.
            drop(RequestBody::new(body, &parts.headers, app.config.limits.body_idle, &app.tasks));
            (ApiError::Overloaded.into_response(), None)
        }
    }
}

/// A body that counts what was sent, and writes the request's log line when it is done or given up.
struct Observed {
    inner: Attended,
    bytes: u64,
    path: String,
    client: Option<IpAddr>,
    /// What the answer says; `None` is unknown.
    staleness_ms: Option<u64>,
    start: Instant,
    sample: RequestSample,
    /// Taken until the body was sent or given up.
    _place: Option<Place>,
    /// It ends with the body.
    _span: Span,
    app: Arc<App>,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let RequestSample { method, route, status, .. } = self.sample;
        self.app.metrics.record_response_bytes(route, self.bytes);
        let ms = millis(self.start.elapsed());
        let (path, bytes, client) = (self.path.as_str(), self.bytes, self.client.map(field::display));
        let staleness_ms = self.staleness_ms;
        // Without the span, which would say all of it twice.
        if matches!(route, "/livez" | "/readyz") {
            tracing::debug!(parent: None, method, path, status, bytes, ms, client, staleness_ms, "request");
        } else {
            tracing::info!(parent: None, method, path, status, bytes, ms, client, staleness_ms, "request");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_types::Revision;
    use std::time::SystemTime;

    fn freshness(mode: Mode, staleness: Option<Duration>) -> Freshness {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
        Freshness { applied: Revision(1), mode, staleness, read_only_since: (mode == Mode::ReadOnly).then_some(since) }
    }

    #[test]
    fn staleness_is_rounded_up_and_unknown_is_not_zero() {
        assert_eq!(staleness(&freshness(Mode::ReadWrite, None)), "unknown");
        assert_eq!(staleness(&freshness(Mode::ReadWrite, Some(Duration::ZERO))), "0");
        assert_eq!(staleness(&freshness(Mode::ReadWrite, Some(Duration::from_micros(1)))), "1");
        assert_eq!(staleness(&freshness(Mode::ReadWrite, Some(Duration::from_millis(7)))), "7");
    }

    #[test]
    fn a_warning_stands_in_read_only_mode_alone() {
        assert_eq!(warning("ap-south", &freshness(Mode::ReadWrite, None)), None);
        let text = warning("ap-south", &freshness(Mode::ReadOnly, None)).unwrap();
        assert_eq!(text, "299 - \"region ap-south is read-only: no quorum since 2001-09-09T01:46:40Z\"");
    }
}

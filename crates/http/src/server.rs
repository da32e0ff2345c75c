//! Accepts connections, within bounds, and ends them in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::activity::{Activity, BusyBody};
use crate::attended::while_taken;
use crate::head::HeadGuard;
use crate::sniff::{Protocol, sniff};
use crate::stall::StallGuard;
use crate::streams::Streams;

/// The client's address, an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Most connections at once; more wait in the operating system's queue.
    pub connections_max: usize,
    /// Most bytes of a request's head, its line included; more are answered 431 or 414. So are more than 100 headers,
    /// hyper's own bound.
    pub header_bytes_max: u32,
    /// How long a connection may take for a request's head, from its first byte on, and for the first byte of all.
    pub header_read: Duration,
    /// How long a connection without a request is kept.
    pub idle: Duration,
    /// How long a client may take no bytes of what it asked for.
    pub write_stall: Duration,
    /// Most requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// How long requests may go on after the shutdown began; then their connections are cut.
    pub shutdown: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            header_bytes_max: 64 << 10,
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(60),
            streams_max: 128,
            shutdown: Duration::from_secs(5),
        }
    }
}

/// HTTP/2's flow-control window of one stream, and thereby the bytes that an upload may have under way.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// HTTP/2's flow-control window of a whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Most bytes of one stream's answer that wait for the connection, but for one piece: hyper's default is six times as
/// much, which a client with large windows that reads nothing could have of every stream.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Most bytes of answers that wait for an HTTP/1.1 connection, but for one piece; its requests' heads must fit, too.
const CONNECTION_BUFFER_BYTES_MAX: usize = 128 << 10;
/// Streams that a client may have opened and reset before they were accepted (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Most bytes that a socket takes beyond what the client's window lets go out, about (tcp(7), `TCP_NOTSENT_LOWAT`).
const NOT_SENT_BYTES_MAX: u32 = 256 << 10;
/// How often a quiet HTTP/2 connection is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a connection that was told to end may take for it, without a request.
const GOODBYE: Duration = Duration::from_secs(5);
/// What is waited when the operating system has no descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Serves a router on listeners until `shutdown` is cancelled. It returns when every connection has ended: in good
/// order within the deadline, cut after it.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, limits: ServerLimits, shutdown: CancellationToken) {
    let server = Server { router, limits, shutdown, cut: CancellationToken::new(), connections: TaskTracker::new() };
    let places = std::sync::Arc::new(Semaphore::new(limits.connections_max));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(server.clone().accept(listener, places.clone()));
    }
    while accepting.join_next().await.is_some() {}
    server.connections.close();
    if timeout(limits.shutdown, server.connections.wait()).await.is_err() {
        tracing::warn!(
            connections = server.connections.len(),
            "requests did not end in time; their connections are cut"
        );
        server.cut.cancel();
        server.connections.wait().await;
    }
}

#[derive(Clone)]
struct Server {
    router: Router,
    limits: ServerLimits,
    /// No new requests.
    shutdown: CancellationToken,
    /// No old ones either.
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    async fn accept(self, listener: TcpListener, places: std::sync::Arc<Semaphore>) {
        loop {
            let next = async { (places.clone().acquire_owned().await, listener.accept().await) };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = self.shutdown.cancelled() => return,
            };
            let Ok(place) = place else { return };
            match accepted {
                Ok((stream, peer)) => {
                    self.connections.spawn(self.clone().connection(stream, peer, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let cut = self.cut.clone();
        let ended = tokio::select! {
            ended = self.speak(stream, peer) => ended,
            () = cut.cancelled() => Err("cut at shutdown".into()),
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "a connection ended");
        }
        drop(place);
    }

    async fn speak(self, stream: TcpStream, peer: SocketAddr) -> Result<(), String> {
        // Small answers must not wait for the client's delayed acknowledgement.
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        // Whether a client takes bytes is seen only when the socket takes some again; by default that is when a third
        // of megabytes is gone, which a slow client needs minutes for.
        SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX).map_err(|e| e.to_string())?;
        let sniffed = tokio::select! {
            sniffed = timeout(self.limits.header_read, sniff(stream)) => sniffed,
            () = self.shutdown.cancelled() => return Ok(()),
        };
        let (protocol, io) = sniffed.map_err(|_| "no request came")?.map_err(|e| e.to_string())?;
        let io = StallGuard::new(io, self.limits.write_stall);
        match protocol {
            Protocol::Http1 => {
                while_taken(self.http1(io, peer)).await.ok_or("the client took nothing of an answer for too long")?
            }
            Protocol::Http2 => self.http2(io, peer).await,
        }
        .map_err(|e| e.to_string())
    }

    async fn http1(self, io: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) -> hyper::Result<()> {
        let activity = Activity::new();
        let io = HeadGuard::new(io, activity.clone(), self.limits.header_read);
        let header_bytes_max = self.limits.header_bytes_max as usize;
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // Idleness, to hyper; the head itself is guarded by `io`.
            .header_read_timeout(self.limits.idle)
            .max_header_size(header_bytes_max)
            .max_buf_size(CONNECTION_BUFFER_BYTES_MAX.max(2 * header_bytes_max))
            .serve_connection(TokioIo::new(io), service(self.router, peer, activity));
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    async fn http2(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
    ) -> hyper::Result<()> {
        let activity = Activity::new();
        let connection = hyper::server::conn::http2::Builder::new(Streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_max)
            .max_header_list_size(self.limits.header_bytes_max)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .serve_connection(TokioIo::new(io), service(self.router, peer, activity.clone()));
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = activity.idle_for(self.limits.idle) => {}
            () = self.shutdown.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => ended,
            // A client that does not say goodbye is not waited for.
            () = activity.idle_from_now_for(GOODBYE) => Ok(()),
        }
    }
}

/// The router as hyper calls it, for one client.
fn service(
    router: Router,
    peer: SocketAddr,
    activity: Activity,
) -> impl hyper::service::HttpService<
    Incoming,
    ResBody = Body,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> {
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let (busy, answer) = (activity.begin(), router.clone().call(request.map(Body::new)));
        async move { Ok(answer.await?.map(|body| Body::new(BusyBody::new(body, busy)))) }
    })
}

//! Clients that are slow on purpose, against real sockets: each is given up, and what it held is free again.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_http::{RequestLimits, ServerLimits, router, serve};
use atoll_registry::Registry;
use atoll_types::Digest;
use axum::body::Body;
use common::{DEADLINE, Node, Peers, Region, app, config, listen, registry, serve_limited};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const SHORT: Duration = Duration::from_millis(150);

/// A node that is impatient in one way alone: only that can end what a test waits for.
async fn node(limits: RequestLimits, server: ServerLimits) -> (Node, Arc<Registry>) {
    let mut config = config(1);
    config.limits = limits;
    let registry = registry(1);
    (serve_limited(listen().await, config, registry.clone(), Peers::default(), server), registry)
}

fn patient() -> ServerLimits {
    let long = DEADLINE * 60;
    ServerLimits { header_read: long, idle: long, write_stall: long, ..ServerLimits::default() }
}

/// Reads to the end of the connection.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    // A reset is an end too.
    let _ = read;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes one by one, each well within the patience of the node, until the connection is gone.
async fn trickle(stream: TcpStream, pause: Duration) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let mut timer = tokio::time::interval(pause);
        loop {
            timer.tick().await;
            if writer.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, reader.read_to_end(&mut answer)).await.expect("the connection is closed");
    sending.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn patch(node: &Node, session: &str, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

#[tokio::test]
async fn a_body_that_stops_is_408_and_its_session_goes_on() {
    let limits = RequestLimits { body_idle: SHORT, ..RequestLimits::default() };
    let (node, _) = node(limits, patient()).await;
    let session = node.open_session("r").await;
    let answer = answer(&mut patch(&node, &session, b"0123456789").await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let status = node.get(&session).await;
    assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-9"));
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_trickles_is_408_and_its_session_goes_on() {
    let limits = RequestLimits { body_idle: SHORT, ..RequestLimits::default() };
    let (node, _) = node(limits, patient()).await;
    let session = node.open_session("r").await;
    let answer = trickle(patch(&node, &session, b"0123456789").await, SHORT / 10).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(node.get(&session).await.status, 204);
    node.stop().await;
}

#[tokio::test]
async fn a_head_that_trickles_is_not_waited_for_and_an_idle_connection_is_kept() {
    let (node, _) = node(RequestLimits::default(), ServerLimits { header_read: SHORT, ..patient() }).await;
    let mut kept = TcpStream::connect(node.address).await.unwrap();
    let ask = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";
    kept.write_all(ask).await.unwrap();
    assert!(kept.read(&mut [0; 2048]).await.unwrap() > 0);

    let mut slow = TcpStream::connect(node.address).await.unwrap();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nX-Slow: ").await.unwrap();
    let start = Instant::now();
    let answer = trickle(slow, SHORT / 10).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(start.elapsed() >= SHORT / 2);

    // Idle for as long as the other one was allowed to trickle, and more.
    kept.write_all(ask).await.unwrap();
    assert!(kept.read(&mut [0; 2048]).await.unwrap() > 0);
    // Its next head may not trickle either.
    kept.write_all(b"GET /v2/ HT").await.unwrap();
    let _ = self::answer(&mut kept).await;
    node.stop().await;
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed() {
    let listener = listen().await;
    let (address, stop) = (listener.local_addr().unwrap(), tokio_util::sync::CancellationToken::new());
    let app = app(config(1), registry(1), Peers::default());
    let limits = ServerLimits { idle: SHORT, ..patient() };
    let serving = tokio::spawn(serve(vec![listener], router(app), limits, stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The preface and empty settings; it acknowledges nothing and answers no ping.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // hyper's own pings would end it too, after most of a minute.
    timeout(Duration::from_secs(15), answer(&mut stream)).await.expect("it is idle");
    stop.cancel();
    timeout(DEADLINE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_takes_a_few_bytes_at_a_time_gives_its_place_back() {
    // Only the body's own rule can end it: something is taken all the time.
    let limits = RequestLimits { body_idle: SHORT, requests_max: 1, ..RequestLimits::default() };
    let (node, registry) = node(RequestLimits { body_idle: DEADLINE, ..limits }, patient()).await;
    let blob = node.push_blob("r", &vec![7; 64 << 20]).await;
    node.stop().await;
    let mut config = config(1);
    config.limits = limits;
    let node = serve_limited(listen().await, config, registry, Peers::default(), patient());
    let mut slow = TcpStream::connect(node.address).await.unwrap();
    slow.write_all(format!("GET /v2/r/blobs/{blob} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    slow.read_exact(&mut [0; 1]).await.unwrap();
    let taking = tokio::spawn(async move {
        let mut timer = tokio::time::interval(SHORT / 3);
        while slow.read(&mut [0; 16]).await.is_ok_and(|n| n > 0) {
            timer.tick().await;
        }
    });
    is_free(&node).await;
    taking.abort();
    node.stop().await;
}

/// An HTTP/2 connection that answers pings and takes no more than `window` bytes of each body.
async fn narrow(address: SocketAddr, window: u32) -> (SendRequest<Body>, JoinHandle<()>) {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(window).handshake(io);
    let (client, connection) = handshake.await.unwrap();
    let connection = async move {
        let _ = connection.await;
    };
    (client, tokio::spawn(connection))
}

async fn ask(client: &mut SendRequest<Body>, method: Method, path: &str) -> Response<Incoming> {
    client.ready().await.unwrap();
    let request = Request::builder().method(method).uri(format!("http://node{path}")).body(Body::empty()).unwrap();
    timeout(DEADLINE, client.send_request(request)).await.expect("an answer").unwrap()
}

async fn is_free(node: &Node) {
    let until = Instant::now() + DEADLINE;
    while node.get("/v2/").await.status != 200 {
        assert!(Instant::now() < until, "its place is not free");
    }
}

#[tokio::test]
async fn streams_whose_windows_stay_shut_are_reset_alone() {
    let limits = RequestLimits { body_idle: SHORT, requests_max: 4, ..RequestLimits::default() };
    let (node, _) = node(limits, patient()).await;
    let (mut client, connection) = narrow(node.address, 0).await;
    let mut answers = Vec::new();
    // Small ones and failures, too, hold something: the connection is not idle while one waits.
    for path in ["/v2/", "/v2/", "/v2/", "/v2/r/manifests/none", "/livez", "/v2/"] {
        answers.push(ask(&mut client, Method::GET, path).await);
    }
    for answer in answers {
        assert!(timeout(DEADLINE, answer.into_body().collect()).await.expect("its stream is reset").is_err());
    }
    is_free(&node).await;
    assert_eq!(ask(&mut client, Method::HEAD, "/v2/").await.status(), StatusCode::OK, "the connection goes on");
    drop(client);
    connection.await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_connection_of_streams_that_were_given_up_is_idle() {
    let limits = RequestLimits { body_idle: SHORT, requests_max: 1, ..RequestLimits::default() };
    let (node, _) = node(limits, ServerLimits { idle: SHORT, ..patient() }).await;
    let blob = node.push_blob("r", &vec![7; 1 << 20]).await;
    let (mut client, connection) = narrow(node.address, 1).await;
    let answer = ask(&mut client, Method::GET, &format!("/v2/r/blobs/{blob}")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    is_free(&node).await;
    timeout(Duration::from_secs(15), connection).await.expect("it is idle").unwrap();
    drop((answer, client));
    node.stop().await;
}

#[tokio::test]
async fn a_write_keeps_its_place_when_its_client_leaves() {
    let mut config = config(1);
    config.limits.requests_max = 1;
    let (registry, group) = Region::new().node(1);
    // With one connection at a time, the next one is served when the server has noticed that the last one is gone.
    let server = ServerLimits { connections_max: 1, ..patient() };
    let node = serve_limited(listen().await, config, registry, Peers::default(), server);
    group.hold(true);
    let mut leaving = TcpStream::connect(node.address).await.unwrap();
    let path = format!("/v2/r/blobs/uploads/?digest={}", Digest::sha256(b"blob"));
    let put = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nblob");
    leaving.write_all(put.as_bytes()).await.unwrap();
    timeout(DEADLINE, group.held(1)).await.expect("the write is under way");
    drop(leaving);
    assert_eq!(node.get("/v2/").await.status, StatusCode::TOO_MANY_REQUESTS, "the write has its place");
    group.hold(false);
    is_free(&node).await;
    node.stop().await;
}

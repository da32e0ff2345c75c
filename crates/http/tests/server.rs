//! The server against real sockets: bounds of heads and connections, both protocols, the end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_http::{ServerLimits, serve};
use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(router: Router, limits: ServerLimits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(serve(vec![listener], router, limits, shutdown.clone()));
    Running { address, shutdown, task }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await;
    }

    async fn ended(self) {
        tokio::time::timeout(DEADLINE, self.task).await.expect("the server ends").unwrap();
    }
}

/// The status of the answer to raw bytes; 0 when the connection was just closed.
async fn raw(address: SocketAddr, data: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(data).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.windows(2).any(|w| w == b"\r\n") {
        match tokio::time::timeout(DEADLINE, stream.read(&mut piece)).await.expect("an answer or the end") {
            Ok(more) if more > 0 => answer.extend_from_slice(&piece[..more]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_and_the_server_goes_on() {
    let server = start(Router::new().fallback(|| async { "ok" }), ServerLimits::default()).await;
    let mut many = b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec();
    (0..20_000).for_each(|i| many.extend_from_slice(format!("X-{i}: y\r\n").as_bytes()));
    many.extend_from_slice(b"\r\n");
    let long = [b"GET / HTTP/1.1\r\nHost: x\r\nX-Pad: ".to_vec(), vec![b'y'; 2 << 20], b"\r\n\r\n".to_vec()].concat();
    let path = [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()].concat();
    let lengths = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET";
    for (data, statuses) in [
        (&b"GARBAGE\r\n\r\n"[..], &[0, 400][..]),
        (&many, &[0, 431]),
        (&long, &[0, 431]),
        (&path, &[0, 414, 431]),
        (lengths, &[200, 400]),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n", &[0, 400]),
        (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[0, 400]),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
    ] {
        let status = raw(server.address, data).await;
        assert!(statuses.contains(&status), "{status} for {:?}", String::from_utf8_lossy(&data[..data.len().min(40)]));
    }
    server.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let server =
        start(Router::new().route("/", post(|body: bytes::Bytes| async { body })), ServerLimits::default()).await;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let body = vec![7; 3 << 20];
    let request = Request::post(format!("http://{}/", server.address)).body(Body::from(body[..1 << 20].to_vec()));
    let answer = client.request(request.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, http::Version::HTTP_2));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body[..1 << 20]);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let limits = ServerLimits { header_read: Duration::from_millis(50), ..ServerLimits::default() };
    let server = start(Router::new(), limits).await;
    for begun in [&b""[..], b"PRI * HT", b"GET / HTTP/1.1\r\nHost:"] {
        let status = raw(server.address, begun).await;
        assert!(matches!(status, 0 | 408), "{status}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    // Only the stall can end the connection: the shutdown would wait for it.
    let patience = Duration::from_millis(100);
    let limits = ServerLimits { write_stall: patience, shutdown: DEADLINE * 60, ..ServerLimits::default() };
    let endless = get(|| async {
        Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![0; 65536]))))
    });
    let server = start(Router::new().route("/", endless), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (begun.clone(), go.clone());
    let slow = get(move || async move {
        tell.notify_one();
        wait.notified().await;
        "done"
    });
    let server = start(Router::new().route("/", slow), ServerLimits::default()).await;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let asked = tokio::spawn(client.get(format!("http://{}/", server.address).parse().unwrap()));
    begun.notified().await;
    server.shutdown.cancel();
    go.notify_one();
    let answer = tokio::time::timeout(DEADLINE, asked).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done");
    let address = server.address;
    server.ended().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_deadline() {
    let begun = Arc::new(Notify::new());
    let tell = begun.clone();
    let never = get(move || async move {
        tell.notify_one();
        std::future::pending::<()>().await;
    });
    let limits = ServerLimits { connections_max: 1, shutdown: Duration::from_millis(50), ..ServerLimits::default() };
    let server = start(Router::new().route("/", never), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    server.stop().await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let limits = ServerLimits { connections_max: 1, ..ServerLimits::default() };
    let server = start(Router::new().route("/", get(|| async { "ok" })), limits).await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(request).await.unwrap();
    assert!(first.read(&mut [0; 512]).await.unwrap() > 0);
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(request).await.unwrap();
    let mut answer = [0; 512];
    assert!(tokio::time::timeout(Duration::from_millis(100), second.read(&mut answer)).await.is_err(), "no place yet");
    drop(first);
    assert!(tokio::time::timeout(DEADLINE, second.read(&mut answer)).await.unwrap().unwrap() > 0);
    drop(second);
    server.stop().await;
}

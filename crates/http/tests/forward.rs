//! Upload sessions asked for at another node than their own.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

mod common;

use atoll_types::{Digest, NodeId};
use axum::body::Body;
use common::{Node, OCTETS, Peers, Region, config, listen, registry, serve_on};
use http::StatusCode;

/// Two nodes that know each other, and of a third that is not there.
async fn two() -> (Node, Node) {
    let (one, two, dead) = (listen().await, listen().await, listen().await);
    let address = |l: &tokio::net::TcpListener| l.local_addr().unwrap().to_string();
    let peers = Peers(vec![(NodeId(1), address(&one)), (NodeId(2), address(&two)), (NodeId(3), address(&dead))]);
    drop(dead);
    let region = Region::new();
    let first = serve_on(one, config(1), region.registry(1), peers.clone());
    (first, serve_on(two, config(2), region.registry(2), peers))
}

#[tokio::test]
async fn any_node_takes_the_requests_of_a_session() {
    let (one, two) = two().await;
    let at = one.open_session("r").await;
    let body: Vec<u8> = (0..3 << 20).map(|i: u32| (i % 251) as u8).collect();
    let patched = two.call("PATCH", &at, &[OCTETS], body.clone()).await;
    assert_eq!((patched.status, patched.header("location")), (StatusCode::ACCEPTED, &*at));
    let end = format!("0-{}", body.len() - 1);
    assert_eq!(patched.header("range"), end);
    assert_eq!(two.get(&at).await.header("range"), end);
    let gap = two.call("PATCH", &at, &[OCTETS, ("content-range", "0-1")], "xx").await;
    assert_eq!((gap.status, &*gap.code()), (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"));
    let digest = Digest::sha256(&body);
    let put = two.call("PUT", &format!("{at}?digest={digest}"), &[], Body::empty()).await;
    assert_eq!((put.status, put.header("docker-content-digest")), (StatusCode::CREATED, &*digest.to_string()));
    assert_eq!(one.get(put.header("location")).await.body, body);
    let at = one.open_session("r").await;
    assert_eq!(two.call("DELETE", &at, &[], Body::empty()).await.status, 204);
    assert_eq!(one.get(&at).await.status, 404);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_request_is_forwarded_once_and_to_nodes_that_are_there() {
    let (one, two) = two().await;
    let at = one.open_session("r").await;
    let looped = two.call("PATCH", &at, &[OCTETS, ("atoll-forwarded-by", "1")], "x").await;
    assert_eq!((looped.status, &*looped.code()), (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"));
    let unknown = one.call("PATCH", &at.replace(".1.", ".77."), &[OCTETS], "x").await;
    assert_eq!((unknown.status, &*unknown.code()), (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"));
    let dead = at.replace(".1.", ".3.");
    for method in ["PATCH", "GET", "PUT", "DELETE"] {
        let answer = one.call(method, &format!("{dead}?digest={}", Digest::sha256(b"x")), &[OCTETS], "x").await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"), "{method}");
        assert!(String::from_utf8_lossy(&answer.body).contains("node 3"), "{method}");
        assert!(answer.headers.contains_key("retry-after"), "{method}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_through_a_node_is_seen_at_that_node() {
    let (one, two) = (listen().await, listen().await);
    let address = one.local_addr().unwrap().to_string();
    let region = Region::new();
    let (registry, seen) = region.node(2);
    let one = serve_on(one, config(1), region.registry(1), Peers::default());
    let two = serve_on(two, config(2), registry, Peers(vec![(NodeId(1), address)]));
    let at = one.open_session("r").await;
    let digest = Digest::sha256(b"whole");
    seen.lag();
    assert_eq!(two.call("PUT", &format!("{at}?digest={digest}"), &[OCTETS], "whole").await.status, 201);
    assert_eq!(two.call("HEAD", &format!("/v2/r/blobs/{digest}"), &[], Body::empty()).await.status, 200);
    one.stop().await;
    two.stop().await;
}

/// An owner that takes connections and bytes, and never answers.
async fn silent() -> (String, tokio::task::JoinHandle<()>) {
    let listener = listen().await;
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            held.push(tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await }));
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_silent_owner_is_given_up_and_what_is_unknown_is_said() {
    let (address, task) = silent().await;
    let mut config = config(1);
    config.limits.forward_idle = std::time::Duration::from_millis(100);
    let node = serve_on(listen().await, config, registry(1), Peers(vec![(NodeId(9), address)]));
    let at = node.open_session("r").await.replace(".1.", ".9.");
    let patched = node.call("PATCH", &at, &[OCTETS], "x").await;
    assert_eq!((patched.status, patched.header("atoll-outcome")), (StatusCode::SERVICE_UNAVAILABLE, ""));
    let put = node.call("PUT", &format!("{at}?digest={}", Digest::sha256(b"x")), &[OCTETS], "x").await;
    assert_eq!((put.status, put.header("atoll-outcome")), (StatusCode::GATEWAY_TIMEOUT, "unknown"));
    node.stop().await;
    task.abort();
}

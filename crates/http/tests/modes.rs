//! Read-only mode, preconditions, retries, torn bodies: what a client is told when things are not as usual.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

mod common;

use std::sync::Arc;
use std::time::Duration;

use atoll_testkit::{LocalNode, NextProposal};
use atoll_types::{Digest, RequestId};
use axum::body::Body;
use common::{Answer, MANIFEST, Node, OCTETS, Peers, Region, config, listen, node, serve_on};
use http::StatusCode;
use tokio::io::AsyncWriteExt;

/// What a warning of read-only mode begins with; the time of the beginning follows.
const WARNING: &str = "299 - \"region us-east is read-only: no quorum since 20";

async fn seen() -> (Arc<LocalNode>, Node) {
    let (registry, seen) = Region::new().node(1);
    (seen, serve_on(listen().await, config(1), registry, Peers::default()))
}

fn refused(answer: &Answer, what: &str) {
    assert_eq!((answer.status, &*answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"), "{what}");
    assert!(answer.headers.contains_key("retry-after"), "{what}");
    assert!(answer.header("warning").starts_with(WARNING), "{what}");
}

#[tokio::test]
async fn a_node_that_is_cut_off_serves_what_it_has_says_so_and_takes_nothing() {
    let (seen, node) = seen().await;
    let image = node.push_image("r", "v1", b"layer").await;
    let session = node.open_session("r").await;
    assert_eq!(node.get("/v2/r/manifests/v1").await.header("warning"), "");
    seen.cut_off(true);

    let blob = format!("/v2/r/blobs/{}", image.layer);
    for path in ["/v2/", "/v2/_catalog", "/v2/r/tags/list", "/v2/r/manifests/v1", &blob, &session] {
        let answer = node.get(path).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        assert!(answer.header("warning").starts_with(WARNING), "{path}");
    }
    for path in ["/v2/r/manifests/none", &format!("/v2/r/blobs/{}", Digest::sha256(b"none")), "/v2/none/tags/list"] {
        let answer = node.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.header("warning").starts_with(WARNING), "{path}");
    }
    let by_digest = format!("/v2/r/manifests/{}", image.digest);
    let mount = format!("/v2/other/blobs/uploads/?mount={}&from=r", image.layer);
    let finish = format!("{session}?digest={}", Digest::sha256(b"x"));
    for (method, path) in [
        ("POST", "/v2/r/blobs/uploads/"),
        ("POST", &mount),
        ("PATCH", &session),
        ("PUT", &finish),
        ("DELETE", &session),
        ("PUT", "/v2/r/manifests/v2"),
        ("DELETE", "/v2/r/manifests/v1"),
        ("DELETE", &by_digest),
        ("DELETE", &blob),
    ] {
        refused(&node.call(method, path, &[OCTETS], vec![b'x'; 1 << 20]).await, &format!("{method} {path}"));
    }
    let strict = node.call("GET", "/v2/r/manifests/v1", &[("atoll-consistency", "linearizable")], Body::empty()).await;
    refused(&strict, "a linearizable read");

    seen.cut_off(false);
    assert_eq!(node.get(&session).await.header("range"), "0-0", "the session took nothing");
    assert_eq!(node.get("/v2/r/tags/list").await.json()["tags"], serde_json::json!(["v1"]));
    node.stop().await;
}

#[tokio::test]
async fn a_put_can_expect_what_its_tag_is() {
    let node = node().await;
    let old = node.push_image("r", "v1", b"old").await;
    let new = node.push_image("r", "other", b"new").await;
    let put = |header: (&'static str, String)| {
        let (node, body) = (&node, new.manifest.clone());
        async move {
            node.call("PUT", "/v2/r/manifests/v1", &[("content-type", MANIFEST), (header.0, &header.1)], body).await
        }
    };
    let absent = put(("if-none-match", "*".to_owned())).await;
    assert_eq!((absent.status, &*absent.code()), (StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED"));
    assert_eq!(put(("if-match", format!("\"{}\"", new.digest))).await.status, 412);
    assert_eq!(put(("if-match", "nonsense".to_owned())).await.code(), "PRECONDITION_INVALID");
    assert_eq!(put(("if-match", format!("\"{}\"", old.digest))).await.status, 201);
    assert_eq!(node.get("/v2/r/manifests/v1").await.header("docker-content-digest"), new.digest.to_string());
    node.stop().await;
}

#[tokio::test]
async fn a_retry_gets_the_answer_of_its_first_attempt() {
    let node = node().await;
    let image = node.push_image("r", "v1", b"layer").await;
    let seen = node.call("PUT", "/v2/r/manifests/v0", &[("content-type", MANIFEST)], image.manifest.clone()).await;
    let id = format!("{}-{}", seen.header("atoll-revision"), RequestId::random());
    let mut revisions = Vec::new();
    for _ in 0..2 {
        let headers = [("content-type", MANIFEST), ("atoll-request-id", &*id)];
        let answer = node.call("PUT", "/v2/r/manifests/v2", &headers, image.manifest.clone()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        revisions.push(answer.header("atoll-revision").to_owned());
    }
    assert_eq!(revisions[0], revisions[1]);

    let at = node.open_session("r").await;
    let digest = Digest::sha256(b"whole");
    for _ in 0..2 {
        let answer = node.call("PUT", &format!("{at}?digest={digest}"), &[OCTETS], "whole").await;
        assert_eq!(
            (answer.status, answer.header("docker-content-digest")),
            (StatusCode::CREATED, &*digest.to_string())
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn a_read_waits_for_a_revision_within_bounds() {
    let mut config = config(1);
    config.limits.read_wait = std::time::Duration::from_millis(100);
    let node = serve_on(listen().await, config, Region::new().registry(1), Peers::default());
    let image = node.push_image("r", "v1", b"layer").await;
    let put = node.call("PUT", "/v2/r/manifests/v1", &[("content-type", MANIFEST)], image.manifest).await;
    let applied = put.header("atoll-revision").to_owned();
    let read = |revision: String| {
        let node = &node;
        async move { node.call("GET", "/v2/r/manifests/v1", &[("atoll-min-revision", &*revision)], Body::empty()).await }
    };
    assert_eq!(read(applied).await.status, 200);
    let ahead = read("9999999999999".to_owned()).await;
    assert_eq!((ahead.status, &*ahead.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
    node.stop().await;
}

#[tokio::test]
async fn a_torn_body_leaves_no_blob_and_the_same_request_is_taken_again() {
    let node = node().await;
    for before in [0, 300] {
        let blob = vec![b'a' + u8::from(before > 0); 1000];
        let at = node.open_session("r").await;
        let digest = Digest::sha256(&blob);
        if before > 0 {
            assert_eq!(node.call("PATCH", &at, &[OCTETS], blob[..before].to_vec()).await.status, 202);
        }
        let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
        let length = 1000 - before;
        let head = format!("PUT {at}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &blob[before..800]].concat()).await.unwrap();
        let deadline = tokio::time::Instant::now() + common::DEADLINE;
        let in_time = |what: &str| assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        // A chunk that goes on nowhere is refused as such until the session is busy with the torn request.
        let astray = [OCTETS, ("content-range", "900-900")];
        while node.call("PATCH", &at, &astray, "x").await.status != 503 {
            in_time("the torn request arrives");
        }
        drop(stream);
        let finish = format!("{at}?digest={digest}");
        loop {
            let again = node.call("PUT", &finish, &[OCTETS], blob[before..].to_vec()).await;
            if again.status != 503 {
                assert_eq!(again.status, 201, "{before}: {}", again.code());
                break;
            }
            in_time("the torn request ends");
        }
        assert_eq!(node.get(&format!("/v2/r/blobs/{digest}")).await.status, 200);
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_unknown_is_told_apart_from_what_did_not_happen() {
    let (seen, node) = seen().await;
    let image = node.push_image("r", "v1", b"layer").await;
    let put = || node.call("PUT", "/v2/r/manifests/v2", &[("content-type", MANIFEST)], image.manifest.clone());
    seen.next_proposal(NextProposal::NotProposed);
    let not = put().await;
    assert_eq!(
        (not.status, not.header("atoll-outcome"), &*not.code()),
        (StatusCode::SERVICE_UNAVAILABLE, "", "UNAVAILABLE")
    );
    for lost in [NextProposal::LostUnknown, NextProposal::AppliedUnknown] {
        seen.next_proposal(lost);
        let unknown = put().await;
        assert_eq!(
            (unknown.status, unknown.header("atoll-outcome")),
            (StatusCode::GATEWAY_TIMEOUT, "unknown"),
            "{lost:?}"
        );
        assert!(!unknown.headers.contains_key("retry-after"), "{lost:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn staleness_is_told_and_unknown_is_not_zero() {
    let (seen, node) = seen().await;
    for (staleness, header) in [(None, "unknown"), (Some(Duration::from_millis(7)), "7")] {
        seen.set_staleness(staleness);
        assert_eq!(node.get("/v2/").await.header("atoll-staleness-ms"), header);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_blob_that_is_elsewhere_is_streamed_or_the_regions_are_named() {
    let region = Region::new();
    let far = serve_on(listen().await, config(2), region.distant_registry(2), Peers::default());
    let near = serve_on(listen().await, config(1), region.registry(1), Peers::default());
    let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    let path = format!("/v2/r/blobs/{}", far.push_blob("r", &bytes).await);
    let whole = near.get(&path).await;
    assert!(whole.status == 200 && whole.body == bytes);
    let part = near.call("GET", &path, &[("range", "bytes=1000-1999")], Body::empty()).await;
    assert!(part.status == 206 && part.body == bytes[1000..2000]);
    region.elsewhere.set_unreachable(true);
    let answer = near.get(&path).await;
    assert_eq!((answer.status, &*answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"));
    assert!(String::from_utf8_lossy(&answer.body).contains("eu-west"));
    assert_eq!(near.call("HEAD", &path, &[], Body::empty()).await.status, 200, "its size is known");
    far.stop().await;
    near.stop().await;
}

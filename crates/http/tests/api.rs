//! The API of one node, over a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

mod common;

use axum::body::Body;
use common::{MANIFEST, OCTETS, config, listen, node, registry, serve_on};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn what_was_pushed_is_pulled_as_it_was() {
    let node = node().await;
    let image = node.push_image("team/app", "v1", b"some layer").await;
    for reference in ["v1".to_owned(), image.digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let accept = [("accept", "application/x-something-else")];
        let answer = node.call("GET", &path, &accept, Body::empty()).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, image.manifest.as_bytes()));
        assert_eq!(answer.header("content-type"), MANIFEST);
        assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let head = node.call("HEAD", &path, &[], Body::empty()).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
        for name in ["content-type", "content-length", "docker-content-digest", "etag", "cache-control"] {
            assert_eq!(head.header(name), answer.header(name), "{name}");
        }
        let tag = answer.header("etag").to_owned();
        let again = node.call("GET", &path, &[("if-none-match", &tag)], Body::empty()).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (StatusCode::NOT_MODIFIED, 0, &*tag));
    }
    let blob = node.get(&format!("/v2/team/app/blobs/{}", image.layer)).await;
    assert_eq!((blob.status, &blob.body[..]), (StatusCode::OK, &b"some layer"[..]));
    assert_eq!(node.get("/v2/team/app/tags/list").await.json()["tags"], serde_json::json!(["v1"]));
    node.stop().await;
}

#[tokio::test]
async fn a_large_manifest_is_pulled_and_listed_as_it_was_pushed() {
    let node = node().await;
    let subject = node.push_image("r", "subject", b"layer").await;
    let mut manifest: serde_json::Value = serde_json::from_str(&subject.manifest).unwrap();
    let pad = "\"x\"".repeat(100_000);
    manifest["annotations"] = serde_json::json!({ "pad": pad });
    manifest["subject"] = serde_json::json!({ "mediaType": MANIFEST, "digest": subject.digest.to_string(), "size": subject.manifest.len() });
    let manifest = manifest.to_string();
    let path = "/v2/r/manifests/large";
    let put = node.call("PUT", path, &[("content-type", MANIFEST)], manifest.clone()).await;
    assert_eq!(put.status, 201, "{:?}", put.body);
    let answer = node.get(path).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, manifest.len()));
    assert!(answer.body == manifest.as_bytes());
    assert_eq!(answer.header("content-length"), manifest.len().to_string());
    let head = node.call("HEAD", path, &[], Body::empty()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for name in ["content-type", "content-length", "docker-content-digest", "etag", "cache-control"] {
        assert_eq!(head.header(name), answer.header(name), "{name}");
    }
    let again = node.call("GET", path, &[("if-none-match", answer.header("etag"))], Body::empty()).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let list = node.get(&format!("/v2/r/referrers/{}", subject.digest)).await;
    assert_eq!(list.json()["manifests"][0]["annotations"]["pad"], pad);
    node.stop().await;
}

#[tokio::test]
async fn ranges_of_a_blob() {
    let node = node().await;
    let digest = node.push_blob("r", b"0123456789").await;
    let path = format!("/v2/r/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    let unsatisfiable: (u16, &[u8], &str) = (416, b"", "bytes */10");
    for (headers, (status, body, range)) in [
        (vec![("range", "bytes=2-4")], (206, &b"234"[..], "bytes 2-4/10")),
        (vec![("range", "bytes=-3")], (206, b"789", "bytes 7-9/10")),
        (vec![("range", "bytes=8-")], (206, b"89", "bytes 8-9/10")),
        (vec![("range", "bytes=10-")], unsatisfiable),
        (vec![("range", "bytes=4-2")], unsatisfiable),
        (vec![("range", "bytes=0-1,4-5")], (200, b"0123456789", "")),
        (vec![("range", "bytes=0-1"), ("range", "bytes=4-5")], (200, b"0123456789", "")),
        (vec![("range", "bytes=2-4"), ("if-range", &etag)], (206, b"234", "bytes 2-4/10")),
        (vec![("range", "bytes=2-4"), ("if-range", "\"other\"")], (200, b"0123456789", "")),
        (vec![("if-none-match", &etag)], (304, b"", "")),
    ] {
        let answer = node.call("GET", &path, &headers, Body::empty()).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-range")), (status, range), "{headers:?}");
        if status == 416 {
            answer.code();
        } else {
            assert_eq!(&answer.body[..], body, "{headers:?}");
            assert_eq!(answer.header("accept-ranges"), "bytes");
        }
    }
    let empty = node.push_blob("r", b"").await;
    let answer = node.get(&format!("/v2/r/blobs/{empty}")).await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (StatusCode::OK, 0, "0"));
    node.stop().await;
}

#[tokio::test]
async fn an_upload_in_chunks_goes_on_where_it_is() {
    let node = node().await;
    let at = node.open_session("r").await;
    assert!(at.starts_with("/v2/r/blobs/uploads/"), "{at}");
    let chunk = |range: &'static str, body: &'static str| {
        let (node, at) = (&node, &at);
        async move { node.call("PATCH", at, &[OCTETS, ("content-range", range)], body).await }
    };
    let first = chunk("0-4", "01234").await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-4"));
    let gap = chunk("7-8", "78").await;
    assert_eq!(
        (gap.status, gap.header("range"), gap.header("location")),
        (StatusCode::RANGE_NOT_SATISFIABLE, "0-4", &*at)
    );
    assert_eq!(gap.code(), "BLOB_UPLOAD_INVALID");
    assert_eq!(chunk("5-9", "5").await.code(), "SIZE_INVALID");
    assert_eq!(chunk("nonsense", "5").await.code(), "BLOB_UPLOAD_INVALID");
    let status = node.get(&at).await;
    assert_eq!((status.status, status.header("range")), (StatusCode::NO_CONTENT, "0-4"));
    let digest = atoll_types::Digest::sha256(b"0123456789");
    for bad in ["", "?digest=", "?digest=sha256:xyz", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let answer = node.call("PUT", &format!("{at}{bad}"), &[OCTETS], "56789").await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"), "{bad}");
    }
    let last = node.call("PUT", &format!("{at}?digest={digest}"), &[OCTETS, ("content-range", "5-9")], "56789").await;
    assert_eq!((last.status, last.header("location")), (StatusCode::CREATED, &*format!("/v2/r/blobs/{digest}")));
    assert!(last.header("atoll-revision").parse::<u64>().unwrap() > 0);
    assert_eq!(&node.get(last.header("location")).await.body[..], b"0123456789");
    assert_eq!(node.get(&at).await.code(), "BLOB_UPLOAD_UNKNOWN");

    let at = node.open_session("r").await;
    assert_eq!(node.call("DELETE", &at, &[], Body::empty()).await.status, 204);
    assert_eq!(node.call("PATCH", &at, &[OCTETS], "x").await.code(), "BLOB_UPLOAD_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn a_mount_links_or_opens_a_session() {
    let node = node().await;
    let digest = node.push_blob("source", b"shared").await;
    let mount = |query: String| {
        let node = &node;
        async move { node.call("POST", &format!("/v2/target/blobs/uploads/?{query}"), &[], Body::empty()).await }
    };
    let missing = atoll_types::Digest::sha256(b"missing");
    for query in [format!("mount={missing}&from=source"), format!("mount={digest}&from=NOT%20A%20NAME")] {
        let answer = mount(query).await;
        assert_eq!(answer.status, 202);
        assert!(answer.header("location").starts_with("/v2/target/blobs/uploads/"));
    }
    let answer = mount(format!("mount={digest}&from=source")).await;
    assert_eq!((answer.status, answer.header("docker-content-digest")), (StatusCode::CREATED, &*digest.to_string()));
    assert_eq!(&node.get(answer.header("location")).await.body[..], b"shared");
    assert_eq!(mount("mount=junk&from=source".into()).await.code(), "DIGEST_INVALID");
    node.stop().await;
}

#[tokio::test]
async fn a_put_by_digest_moves_tags_and_names_its_subject() {
    let node = node().await;
    let image = node.push_image("r", "v1", b"layer").await;
    let mut artifact: serde_json::Value = serde_json::from_str(&image.manifest).unwrap();
    artifact["subject"] =
        serde_json::json!({ "mediaType": MANIFEST, "digest": image.digest.to_string(), "size": image.manifest.len() });
    artifact["artifactType"] = "application/x-signature".into();
    let body = artifact.to_string();
    let digest = atoll_types::Digest::sha256(body.as_bytes());
    let path = format!("/v2/r/manifests/{digest}?tag=a&tag=b");
    let answer = node.call("PUT", &path, &[("content-type", MANIFEST)], body).await;
    assert_eq!((answer.status, answer.header("oci-subject")), (StatusCode::CREATED, &*image.digest.to_string()));
    let tags: Vec<_> = answer.headers.get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["a", "b"]);
    for (query, want) in [("", 1), ("?artifactType=application/x-signature", 1), ("?artifactType=other", 0)] {
        let list = node.get(&format!("/v2/r/referrers/{}{query}", image.digest)).await;
        assert_eq!(list.json()["manifests"].as_array().unwrap().len(), want, "{query}");
        assert_eq!(list.header("oci-filters-applied"), if query.is_empty() { "" } else { "artifactType" });
        assert_eq!(list.header("content-type"), "application/vnd.oci.image.index.v1+json");
    }
    for bad in [format!("/v2/r/manifests/{digest}?tag=-bad"), "/v2/r/manifests/v1?tag=other".to_owned()] {
        let answer = node.call("PUT", &bad, &[("content-type", MANIFEST)], "{}").await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::BAD_REQUEST, "TAG_INVALID"));
    }
    let many = format!("/v2/r/manifests/{digest}?{}", "tag=t&".repeat(101));
    assert_eq!(node.call("PUT", &many, &[], "{}").await.status, 414);
    node.stop().await;
}

#[tokio::test]
async fn pages_lead_from_one_to_the_next() {
    let node = node().await;
    let tags = ["a", "b", "c", "d", "e"];
    for tag in tags {
        node.push_image("r", tag, b"layer").await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v2/r/tags/list?n=2".to_owned());
    loop {
        let page = node.get(&path).await;
        seen.extend(page.json()["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()));
        let Some((next, _)) = page.header("link").strip_prefix('<').and_then(|l| l.split_once(">; rel=\"next\""))
        else {
            break;
        };
        path = next.to_owned();
    }
    assert_eq!(seen, tags);
    let none = node.get("/v2/r/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].as_array().unwrap().len(), none.header("link")), (0, ""));
    assert_eq!(node.get("/v2/r/tags/list?n=-1").await.code(), "PAGINATION_NUMBER_INVALID");
    assert_eq!(node.get("/v2/_catalog").await.json()["repositories"], serde_json::json!(["r"]));
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_in_ocis_form() {
    let node = node().await;
    node.push_image("r", "v1", b"layer").await;
    let digest = atoll_types::Digest::sha256(b"never");
    for (method, path, status, code) in [
        ("GET", "/v2/BAD/manifests/v1".to_owned(), 400, "NAME_INVALID"),
        ("GET", "/v2/bad%2Fr/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("GET", "/v2/r/manifests/v%0d%0aX-Injected:%201".to_owned(), 400, "NAME_INVALID"),
        ("GET", "/v2/r/manifests/sha256:short".to_owned(), 400, "MANIFEST_INVALID"),
        ("GET", "/v2/r/blobs/sha256:short".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", format!("/v2/r/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/r/manifests/none".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/none/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("GET", "/v2/r/manifests/v1?ns=other.example".to_owned(), 404, "NAME_UNKNOWN"),
        ("GET", "/other".to_owned(), 404, "UNSUPPORTED"),
        ("PUT", "/v2/".to_owned(), 405, "UNSUPPORTED"),
        ("BREW", "/v2/r/tags/list".to_owned(), 405, "UNSUPPORTED"),
        ("POST", "/v2/r/manifests/v1".to_owned(), 405, "UNSUPPORTED"),
    ] {
        let answer = node.call(method, &path, &[], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{method} {path}");
        assert!(!answer.headers.contains_key("x-injected"));
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
    let head = node.call("HEAD", "/v2/r/manifests/none", &[], Body::empty()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::NOT_FOUND, 0));
    for header in [("atoll-min-revision", "abc"), ("atoll-consistency", "sometimes"), ("atoll-request-id", "7")] {
        let answer = node.call("GET", "/v2/r/manifests/v1", &[header], Body::empty()).await;
        assert_eq!((answer.status, &*answer.code()), (StatusCode::BAD_REQUEST, "HEADER_INVALID"), "{header:?}");
    }
    let named = node.get("/v2/r/manifests/v1?ns=registry.example").await;
    assert_eq!(named.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn too_much_is_refused_and_the_answer_can_be_read() {
    let node = node().await;
    let body = vec![b' '; 5 << 20];
    let answer = node.call("PUT", "/v2/r/manifests/v1", &[("content-type", MANIFEST)], body.clone()).await;
    assert_eq!((answer.status, &*answer.code()), (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
    let streamed = Body::from_stream(futures::stream::iter(
        body.chunks(65536).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    ));
    let answer = node.call("PUT", "/v2/r/manifests/v1", &[("content-type", MANIFEST)], streamed).await;
    assert_eq!((answer.status, &*answer.code()), (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
    let answer = node.call("PATCH", "/v2/r/blobs/uploads/unknown", &[OCTETS], body).await;
    assert_eq!((answer.status, &*answer.code()), (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"));
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_expects_a_refusal_sends_no_body() {
    let node = node().await;
    let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let head =
        "PATCH /v2/r/blobs/uploads/unknown HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404", "not 100 Continue");
    drop(stream);
    node.stop().await;
}

#[tokio::test]
async fn health_is_told_even_when_no_request_is_admitted() {
    let mut config = config(1);
    config.limits.requests_max = 0;
    let node = serve_on(listen().await, config, registry(1), common::Peers::default());
    let refused = node.get("/v2/").await;
    assert_eq!((refused.status, &*refused.code()), (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(node.get("/livez").await.status, 200);
    assert_eq!(node.get("/readyz").await.status, 200);
    let push = node.get("/readyz?for=push").await;
    assert_eq!(
        (push.status, push.json()["reason"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("no quorum is in reach"))
    );
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_much_reads_that_it_was_not_admitted() {
    let mut config = config(1);
    config.limits.requests_max = 0;
    let node = serve_on(listen().await, config, registry(1), common::Peers::default());
    let body = vec![7; 8 << 20];
    let head = format!("PATCH /v2/r/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    for _ in 0..5 {
        let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.expect("the body is taken");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer, not a reset");
        assert_eq!(&answer, b"HTTP/1.1 429");
    }
    node.stop().await;
}

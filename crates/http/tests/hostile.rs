//! Whatever is asked, the answer is in OCI's form, and never a failure of the server.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

mod common;

use axum::body::Body;
use common::{Peers, Region, app, config};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower::ServiceExt;

fn paths() -> impl Strategy<Value = String> {
    let piece = "(%[0-9a-fA-F]{2}|[a-z0-9._:/-]|[!-~]){0,40}";
    prop_oneof![
        piece,
        (piece, piece).prop_map(|(name, reference)| format!("/v2/{name}/manifests/{reference}")),
        (piece, piece).prop_map(|(name, digest)| format!("/v2/{name}/blobs/{digest}")),
        (piece, piece).prop_map(|(session, query)| format!("/v2/r/blobs/uploads/{session}?{query}")),
        piece.prop_map(|query| format!("/v2/r/tags/list?{query}")),
        piece.prop_map(|digest| format!("/v2/r/referrers/{digest}")),
        piece.prop_map(|mount| format!("/v2/r/blobs/uploads/?mount={mount}&from={mount}&digest={mount}")),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = prop::sample::select(vec![
        "range",
        "content-range",
        "if-match",
        "if-none-match",
        "if-range",
        "content-type",
        "content-length",
        "atoll-request-id",
        "atoll-consistency",
        "atoll-forwarded-by",
        "atoll-client-address",
        "traceparent",
    ]);
    prop::collection::vec((name, prop::collection::vec(0x20_u8..=0xff, 0..40)), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_request_makes_the_server_fail(
        method in prop::sample::select(vec!["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "BREW"]),
        path in paths(),
        headers in headers(),
        body: Vec<u8>,
    ) {
        let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (parts, text) = runtime.block_on(async {
            let mut request = Request::new(Body::from(body));
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = uri;
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    request.headers_mut().append(HeaderName::from_static(name), value);
                }
            }
            let router = atoll_http::router(app(config(1), Region::new().registry(1), Peers::default()));
            let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
            (parts, body.collect().await.unwrap().to_bytes())
        });
        prop_assert!(parts.status.as_u16() < 500, "{method} {path}: {} {text:?}", parts.status);
        prop_assert_eq!(&parts.headers["docker-distribution-api-version"], "registry/2.0");
        if parts.status.is_client_error() && method != "HEAD" {
            let body: serde_json::Value = serde_json::from_slice(&text).unwrap();
            prop_assert!(body["errors"][0]["code"].is_string() && body["errors"][0]["message"].is_string(), "{body}");
        }
    }
}

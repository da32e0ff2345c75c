//! What operators see of requests, a panic included.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

mod common;

use std::sync::Arc;

use atoll_telemetry::Metrics;
use axum::body::Body;
use common::{Region, buggy_app};
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

#[tokio::test]
async fn requests_are_counted_by_route_and_a_panic_is_a_500() {
    let metrics = Arc::new(Metrics::new());
    let router = atoll_http::router(buggy_app(Region::new().registry(1), metrics.clone()));
    for (method, path, status) in [
        ("GET", "/v2/", 200),
        ("GET", "/v2/r/manifests/none", 404),
        ("BREW", "/v2/../../etc/passwd", 404),
        ("GET", "/readyz", 500),
        ("GET", "/livez", 200),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(parts.status, status, "{path}");
        assert_eq!(parts.headers["docker-distribution-api-version"], "registry/2.0", "{path}");
        if status == 500 {
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["errors"][0]["code"], "INTERNAL");
            assert!(!body.to_string().contains("a bug in the check"), "details stay in the log");
        }
    }
    let text = metrics.render().unwrap();
    for line in [
        "atoll_http_requests_total{route=\"/v2/\",outcome=\"ok\"} 1",
        "atoll_http_requests_total{route=\"/v2/{name}/manifests/{reference}\",outcome=\"client_error\"} 1",
        "atoll_http_requests_total{route=\"_unknown\",outcome=\"client_error\"} 1",
        "atoll_http_requests_total{route=\"/readyz\",outcome=\"server_error\"} 1",
        "http_request_method=\"_OTHER\"",
        "atoll_http_response_body_bytes_total{route=\"/v2/\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

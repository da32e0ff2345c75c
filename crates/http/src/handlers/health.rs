//! Health, for load balancers and orchestrators.

use axum::response::Response;
use http::StatusCode;

use super::{Ask, json};

/// The process answers.
pub(super) fn live() -> Response {
    json(&serde_json::json!({ "live": true }))
}

/// Whether pulls, or with `for=push` pushes, can be served; if not, why not.
pub(super) fn ready(ask: &Ask) -> Response {
    let readiness = ask.app.health.ready();
    let asked = if ask.query.get("for") == Some("push") { readiness.pushes } else { readiness.pulls };
    match asked {
        Ok(()) => json(&serde_json::json!({ "ready": true })),
        Err(reason) => {
            let mut response = json(&serde_json::json!({ "ready": false, "reason": reason }));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            super::set(&mut response, http::header::RETRY_AFTER, "2");
            response
        }
    }
}

//! The servers of a node: gRPC for other nodes, metrics and administration for operators.

use std::sync::Arc;

use atoll_telemetry::Metrics;
use axum::Router;
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::peer_stream;

/// Serves peers until `stop` is cancelled.
pub(crate) async fn serve_peers(
    mut server: Server,
    listener: TcpListener,
    routes: Routes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let incoming = peer_stream::accepted(listener);
    server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
    Ok(())
}

/// What operators ask: the admin service, and `/metrics`.
pub(crate) fn admin_router(routes: Routes, metrics: Arc<Metrics>) -> Router {
    let page = move || {
        let metrics = metrics.clone();
        async move {
            let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
            match metrics.render() {
                Ok(text) => (StatusCode::OK, kind, text),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, kind, String::new()),
            }
        }
    };
    routes.into_axum_router().route("/metrics", get(page))
}

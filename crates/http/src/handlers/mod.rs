//! One handler for each route and method.

mod blobs;
mod health;
mod lists;
mod manifests;
mod uploads;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use atoll_auth::{Access, Action, Identity};
use atoll_registry::{Consistency, ReadOptions, RegistryError, WriteOptions};
use atoll_types::{Digest, NodeId, RepositoryName, Revision};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use crate::app::Place;
use crate::body::RequestBody;
use crate::headers::{ATOLL_CLIENT_ADDRESS, ATOLL_FORWARDED_BY, ATOLL_REVISION, DOCKER_CONTENT_DIGEST, Wishes};
use crate::query::Query;
use crate::route::Route;
use crate::stack::Parsed;
use crate::{ApiError, App, Peer};

/// What a handler answers.
type Answer = Result<Response, ApiError>;

/// A request, taken apart.
struct Ask {
    app: Arc<App>,
    parts: Parts,
    query: Query,
    wishes: Wishes,
    identity: Identity,
    /// Health has none.
    place: Option<Place>,
}

impl Ask {
    /// Runs a write to its end, whatever becomes of the request.
    async fn to_its_end<T, F>(&self, write: F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
        T: Send + 'static,
    {
        self.app.to_its_end(self.place.clone(), write).await
    }

    fn access<A: Action>(&self, repository: &RepositoryName) -> Result<Access<A>, ApiError> {
        self.app.access(&self.identity, repository)
    }

    fn read(&self) -> ReadOptions {
        ReadOptions {
            consistency: if self.wishes.linearizable { Consistency::Linearizable } else { Consistency::Default },
            min_revision: self.wishes.min_revision,
            deadline: Instant::now() + self.app.config.limits.read_wait,
        }
    }

    fn write(&self) -> WriteOptions {
        self.writer()()
    }

    /// The options of a write whose body is still to come: their deadline counts from when they are made.
    fn writer(&self) -> impl FnOnce() -> WriteOptions + Send + use<> {
        let (request, client_address) = (self.wishes.request, self.identity.address.clone());
        let wait = self.app.config.limits.write_wait;
        move || WriteOptions { request, client_address, deadline: Instant::now() + wait }
    }

    fn path(&self) -> &str {
        self.parts.uri.path()
    }
}

/// Every request ends here.
pub(crate) async fn dispatch(app: Arc<App>, request: Request) -> Response {
    answer(app, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: Arc<App>, mut request: Request) -> Answer {
    let parsed = request.extensions_mut().remove::<Parsed>().map(|p| p.0);
    let place = request.extensions_mut().remove::<Place>();
    let (parts, body) = request.into_parts();
    let body = RequestBody::new(body, &parts.headers, app.config.limits.body_idle, &app.tasks);
    let route = parsed.unwrap_or_else(|| Route::parse(parts.uri.path()))?;
    let identity = Identity { name: String::new(), address: client_address(&app, &parts) };
    let (query, wishes) = (Query::of(&parts.uri), Wishes::of(&parts.headers)?);
    let ask = Ask { app, parts, query, wishes, identity, place };
    check_namespace(&ask)?;
    serve(ask, route, body).await
}

/// The client's address: of the connection, or, when a node of this cluster forwards, the one that it names.
fn client_address(app: &App, parts: &Parts) -> String {
    let Some(peer) = parts.extensions.get::<Peer>().map(|peer| peer.0.ip()) else { return String::new() };
    let text = |name| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let forwarder = text(ATOLL_FORWARDED_BY).and_then(|node| node.parse().ok().map(NodeId));
    let known = forwarder.and_then(|node| app.peers.http_address(node)).and_then(|a| a.parse::<SocketAddr>().ok());
    let named = text(ATOLL_CLIENT_ADDRESS).and_then(|a| a.parse::<IpAddr>().ok());
    match (known, named) {
        (Some(node), Some(named)) if node.ip() == peer => named.to_string(),
        _ => peer.to_string(),
    }
}

/// containerd names the registry that it means (`ns=`) when it asks a mirror.
fn check_namespace(ask: &Ask) -> Result<(), ApiError> {
    let names = &ask.app.config.server_names;
    match ask.query.get("ns") {
        Some(ns) if !names.is_empty() && !names.iter().any(|n| n == ns) => {
            Err(ApiError::ForeignNamespace(ns.chars().take(255).collect()))
        }
        _ => Ok(()),
    }
}

/// What is not a pull is boxed: its state is large, and would be moved about with every pull.
async fn serve(ask: Ask, route: Route, body: RequestBody) -> Answer {
    use Method as M;
    match (route, ask.parts.method.clone()) {
        (Route::Live, M::GET | M::HEAD) => Ok(health::live()),
        (Route::Ready, M::GET | M::HEAD) => Ok(health::ready(&ask)),
        (Route::Base, M::GET | M::HEAD) => Ok(json(&serde_json::json!({}))),
        (Route::Catalog, M::GET | M::HEAD) => Box::pin(lists::catalog(&ask)).await,
        (Route::Tags(name), M::GET | M::HEAD) => Box::pin(lists::tags(&ask, &name)).await,
        (Route::Referrers(name, digest), M::GET | M::HEAD) => Box::pin(lists::referrers(&ask, &name, &digest)).await,
        (Route::Live | Route::Ready | Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..), _) => {
            Err(ApiError::Method("GET, HEAD"))
        }
        (Route::Manifest(name, reference), method) => match method {
            M::GET => manifests::get(&ask, &name, &reference).await,
            M::HEAD => manifests::head(&ask, &name, &reference).await,
            M::PUT => Box::pin(manifests::put(&ask, name, reference, body)).await,
            M::DELETE => Box::pin(manifests::delete(&ask, &name, reference)).await,
            _ => Err(ApiError::Method("GET, HEAD, PUT, DELETE")),
        },
        (Route::Blob(name, digest), method) => match method {
            M::GET => blobs::get(&ask, &name, &digest).await,
            M::HEAD => blobs::head(&ask, &name, &digest).await,
            M::DELETE => Box::pin(blobs::delete(&ask, &name, digest)).await,
            _ => Err(ApiError::Method("GET, HEAD, DELETE")),
        },
        (Route::Uploads(name), M::POST) => Box::pin(uploads::start(&ask, name, body)).await,
        (Route::Uploads(_), _) => Err(ApiError::Method("POST")),
        (Route::Upload(name, session), M::GET | M::PATCH | M::PUT | M::DELETE) => {
            Box::pin(uploads::session(&ask, name, session, body)).await
        }
        (Route::Upload(..), _) => Err(ApiError::Method("GET, PATCH, PUT, DELETE")),
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// An answer of JSON. It changes whenever somebody pushes: it may be kept, but not used without asking.
fn json(value: &serde_json::Value) -> Response {
    json_bytes(value.to_string().into())
}

fn json_bytes(bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    response
}

/// Sets a header; a value that HTTP cannot carry is left out. No such value gets here: names, tags and digests are
/// parsed, and media types were checked when they came in.
fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn set_number(response: &mut Response, name: HeaderName, value: u64) {
    response.headers_mut().insert(name, HeaderValue::from(value));
}

/// An answer to a write that was acknowledged.
fn written(status: StatusCode, revision: Revision) -> Response {
    let mut response = empty(status);
    set_number(&mut response, ATOLL_REVISION, revision.0);
    response
}

/// A blob or manifest was stored, and is there.
fn created(location: &str, digest: &Digest, revision: Revision) -> Response {
    let mut response = written(StatusCode::CREATED, revision);
    set(&mut response, header::LOCATION, location);
    set(&mut response, DOCKER_CONTENT_DIGEST, &digest.to_string());
    response
}

//! Upload sessions.

use std::time::Duration;

use atoll_auth::{Pull, Push};
use atoll_registry::{Consistency, Linked, Owner, ReadOptions, RegistryError, SessionId, UploadStatus};
use atoll_types::{Algorithm, Digest, RepositoryName, Revision};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;

use super::{Answer, Ask, created, empty, set};
use crate::ApiError;
use crate::body::RequestBody;
use crate::headers::{
    ATOLL_FORWARDED_BY, ATOLL_REVISION, DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, InvalidHeader, OCI_CHUNK_MIN_LENGTH,
};
use crate::range::parse_chunk;

/// How long an acknowledged write waits for this node to apply it.
const APPLY_WAIT: Duration = Duration::from_secs(1);
/// Every chunk but the empty one is taken.
const CHUNK_BYTES_MIN: &str = "1";

/// Opens a session; or mounts a blob, or stores it whole, so that none is needed.
pub(super) async fn start(ask: &Ask, name: RepositoryName, body: RequestBody) -> Answer {
    ask.app.writable()?;
    if let Some(mount) = ask.query.get("mount") {
        return match mounted(ask, &name, parse_digest(mount)?).await? {
            Some(linked) => Ok(linked_at(&name, &linked)),
            None => open(ask, &name).await,
        };
    }
    match ask.query.get("digest") {
        Some(digest) => whole(ask, name, parse_digest(digest)?, body).await,
        None => open(ask, &name).await,
    }
}

async fn open(ask: &Ask, name: &RepositoryName) -> Answer {
    let algorithm = ask.query.get("digest-algorithm").map(algorithm).transpose()?;
    let status = ask.app.registry.start_upload(&ask.access::<Push>(name)?, algorithm).await?;
    Ok(at(StatusCode::ACCEPTED, name, &status))
}

fn algorithm(text: &str) -> Result<Algorithm, ApiError> {
    [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .find(|a| a.as_str() == text)
        .ok_or_else(|| ApiError::Digest("digest-algorithm is sha256 or sha512".to_owned()))
}

/// Links a blob that another repository has. A source that is not named well, or not readable, is as good as none.
async fn mounted(ask: &Ask, name: &RepositoryName, digest: Digest) -> Result<Option<Linked>, ApiError> {
    let access = ask.access::<Push>(name)?;
    let (registry, options) = (ask.app.registry.clone(), ask.write());
    let from = match ask.query.get("from") {
        None => None,
        Some(from) => {
            let source = from.parse().ok().and_then(|source| ask.access::<Pull>(&source).ok());
            let Some(source) = source else { return Ok(None) };
            Some(source)
        }
    };
    ask.to_its_end(async move { registry.mount(&access, &digest, from.as_ref(), &options).await }).await
}

/// A session of one request: the deadline of the write counts from the end of the body, however long that takes.
async fn whole(ask: &Ask, name: RepositoryName, digest: Digest, body: RequestBody) -> Answer {
    let access = ask.access::<Push>(&name)?;
    let (app, options, length) = (ask.app.clone(), ask.writer(), body.length());
    let body = Box::pin(body.into_stream());
    let upload = async move {
        let id = app.registry.start_upload(&access, Some(digest.algorithm())).await?.id;
        let stored = app.registry.finish_upload(&access, &id, &digest, None, length, body, options).await;
        if stored.is_err() {
            // It may have ended with the failure; nobody else knows its name.
            let _ = app.registry.cancel_upload(&access, &id).await;
        }
        stored
    };
    Ok(linked_at(&name, &ask.to_its_end(upload).await?))
}

/// A request of an open session: answered here, or by the node that owns it.
pub(super) async fn session(ask: &Ask, name: RepositoryName, session: String, body: RequestBody) -> Answer {
    if ask.parts.method != Method::GET {
        ask.app.writable()?;
    }
    let unknown = || RegistryError::UploadUnknown(session.clone());
    match ask.app.registry.session_owner(&session) {
        Owner::Here(id) => here(ask, name, id, body).await,
        Owner::Node { node, .. } if !ask.parts.headers.contains_key(ATOLL_FORWARDED_BY) => {
            let address = ask.app.peers.http_address(node).ok_or_else(unknown)?;
            let answer = ask.app.forwarder.send((node, &address), &ask.identity.address, &ask.parts, body).await?;
            catch_up(ask, &name, answer.headers()).await;
            Ok(answer)
        }
        // A request goes over one hop at most: who forwards it knows the owner.
        Owner::Node { .. } | Owner::Invalid => Err(unknown().into()),
    }
}

/// A blob that was acknowledged through this node is to be seen at this node: its revision is waited for, within the
/// bound that holds for every write.
async fn catch_up(ask: &Ask, name: &RepositoryName, answer: &HeaderMap) {
    let text = |header| answer.get(header).and_then(|v| v.to_str().ok());
    let revision = text(ATOLL_REVISION).and_then(|r| r.parse().ok()).map(Revision);
    let digest = text(DOCKER_CONTENT_DIGEST).and_then(|d| d.parse::<Digest>().ok());
    let (Some(_), Some(digest), Ok(access)) = (revision, digest, ask.access::<Pull>(name)) else { return };
    let deadline = Instant::now() + APPLY_WAIT;
    let options = ReadOptions { consistency: Consistency::Default, min_revision: revision, deadline };
    if let Err(error) = ask.app.registry.head_blob(&access, &digest, &options).await {
        tracing::debug!(%error, "this node has not yet applied an upload that its owner acknowledged");
    }
}

async fn here(ask: &Ask, name: RepositoryName, id: SessionId, body: RequestBody) -> Answer {
    match ask.parts.method {
        Method::PATCH => append(ask, name, id, body).await,
        Method::PUT => finish(ask, name, id, body).await,
        Method::DELETE => {
            ask.app.registry.cancel_upload(&ask.access::<Push>(&name)?, &id).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => {
            let status = ask.app.registry.upload_status(&ask.access::<Push>(&name)?, &id).await?;
            Ok(at(StatusCode::NO_CONTENT, &name, &status))
        }
    }
}

async fn append(ask: &Ask, name: RepositoryName, id: SessionId, body: RequestBody) -> Answer {
    let (start, length) = chunk(ask, &body)?;
    let (access, registry, session) = (ask.access::<Push>(&name)?, ask.app.registry.clone(), id.clone());
    let body = Box::pin(body.into_stream());
    let append = async move { registry.append(&access, &session, start, length, body).await };
    match ask.to_its_end(append).await {
        Ok(status) => Ok(at(StatusCode::ACCEPTED, &name, &status)),
        Err(error) => Ok(refused(error, &name, &id)),
    }
}

async fn finish(ask: &Ask, name: RepositoryName, id: SessionId, body: RequestBody) -> Answer {
    let digest = ask.query.get("digest").ok_or_else(|| {
        ApiError::Digest("a PUT that finishes an upload needs ?digest=<digest of the whole blob>".to_owned())
    })?;
    let (digest, (start, length)) = (parse_digest(digest)?, chunk(ask, &body)?);
    let (access, registry, options) = (ask.access::<Push>(&name)?, ask.app.registry.clone(), ask.writer());
    // Without a body, a range says nothing.
    let start = start.filter(|_| !body.is_empty());
    let (session, body) = (id.clone(), Box::pin(body.into_stream()));
    let finish = async move { registry.finish_upload(&access, &session, &digest, start, length, body, options).await };
    match ask.to_its_end(finish).await {
        Ok(linked) => Ok(linked_at(&name, &linked)),
        Err(error) => Ok(refused(error, &name, &id)),
    }
}

fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|e: atoll_types::InvalidDigest| ApiError::Digest(e.to_string()))
}

/// Where a chunk starts and how long it is, as far as its headers say.
fn chunk(ask: &Ask, body: &RequestBody) -> Result<(Option<u64>, Option<u64>), ApiError> {
    let Some(range) = ask.parts.headers.get(header::CONTENT_RANGE) else { return Ok((None, body.length())) };
    let range = range.to_str().ok().and_then(parse_chunk).ok_or(InvalidHeader::ContentRange)?;
    let stated = range.end - range.start;
    match body.length() {
        Some(actual) if actual != stated => Err(RegistryError::SizeInvalid { stated, actual }.into()),
        _ => Ok((Some(range.start), Some(stated))),
    }
}

fn linked_at(name: &RepositoryName, linked: &Linked) -> Response {
    created(&format!("/v2/{name}/blobs/{}", linked.digest), &linked.digest, linked.revision)
}

/// Where a session is, and how far.
fn at(status: StatusCode, name: &RepositoryName, upload: &UploadStatus) -> Response {
    let mut response = empty(status);
    located(&mut response, name, &upload.id, upload.offset);
    set(&mut response, OCI_CHUNK_MIN_LENGTH, CHUNK_BYTES_MIN);
    response
}

fn located(response: &mut Response, name: &RepositoryName, id: &SessionId, offset: u64) {
    set(response, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"));
    set(response, header::RANGE, &format!("0-{}", offset.saturating_sub(1)));
    set(response, DOCKER_UPLOAD_UUID, &id.to_string());
}

/// A chunk that does not go on where the session is: the answer says where that is.
fn refused(error: ApiError, name: &RepositoryName, id: &SessionId) -> Response {
    let offset = match error.registry() {
        Some(RegistryError::UploadRange { offset, .. }) => Some(*offset),
        _ => None,
    };
    let mut response = error.into_response();
    if let Some(offset) = offset {
        located(&mut response, name, id, offset);
    }
    response
}

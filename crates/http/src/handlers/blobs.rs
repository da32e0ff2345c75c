//! Blobs.

use std::ops::Range;

use atoll_auth::{Delete, Pull};
use atoll_fault::planted;
use atoll_types::{Digest, RepositoryName};
use axum::body::Body;
use axum::response::Response;
use http::{StatusCode, header};

use super::{Answer, Ask, empty, set, set_number, written};
use crate::body::ExactBody;
use crate::conditional::{client_has_it, entity_tag, range_applies};
use crate::headers::DOCKER_CONTENT_DIGEST;
use crate::range::Requested;

/// A client may keep what it got by digest; what stands between must not: it would outlive a delete.
pub(super) const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// The bytes, or a range of them.
pub(super) async fn get(ask: &Ask, name: &RepositoryName, digest: &Digest) -> Answer {
    if planted!("read_only_pull_refused") {
        ask.app.writable()?;
    }
    let blob = ask.app.registry.open_blob(&ask.access::<Pull>(name)?, digest, &ask.read()).await?;
    if client_has_it(&ask.parts.headers, digest) {
        return Ok(described(StatusCode::NOT_MODIFIED, digest));
    }
    let (status, range) = match requested(ask, digest, blob.size) {
        Requested::Whole => (StatusCode::OK, 0..blob.size),
        Requested::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Requested::Unsatisfiable => return Ok(unsatisfiable(digest, blob.size)),
    };
    let length = range.end - range.start;
    let stream = ask.app.registry.read_blob(&blob, range.clone()).await?;
    let mut response = described(status, digest).map(|_| Body::new(ExactBody::new(stream, length)));
    sized(&mut response, length);
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut response, header::CONTENT_RANGE, &content_range(&range, blob.size));
    }
    Ok(response)
}

fn requested(ask: &Ask, digest: &Digest, size: u64) -> Requested {
    let mut ranges = ask.parts.headers.get_all(header::RANGE).iter();
    match (ranges.next().and_then(|v| v.to_str().ok()), ranges.next()) {
        (Some(range), None) if range_applies(&ask.parts.headers, digest) => Requested::parse(range, size),
        _ => Requested::Whole,
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

fn unsatisfiable(digest: &Digest, size: u64) -> Response {
    let message = format!("no byte of the range exists; the blob has {size} bytes");
    let body = crate::error::body("RANGE_INVALID", &message);
    let mut response = described(StatusCode::RANGE_NOT_SATISFIABLE, digest).map(|_| Body::from(body));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
    response
}

/// The size, without the bytes.
pub(super) async fn head(ask: &Ask, name: &RepositoryName, digest: &Digest) -> Answer {
    let blob = ask.app.registry.head_blob(&ask.access::<Pull>(name)?, digest, &ask.read()).await?;
    if client_has_it(&ask.parts.headers, digest) {
        return Ok(described(StatusCode::NOT_MODIFIED, digest));
    }
    let mut response = described(StatusCode::OK, digest);
    sized(&mut response, blob.size);
    Ok(response)
}

fn described(status: StatusCode, digest: &Digest) -> Response {
    let mut response = empty(status);
    set(&mut response, DOCKER_CONTENT_DIGEST, &digest.to_string());
    set(&mut response, header::ETAG, &entity_tag(digest));
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::CACHE_CONTROL, IMMUTABLE);
    response
}

fn sized(response: &mut Response, length: u64) {
    set(response, header::CONTENT_TYPE, "application/octet-stream");
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set_number(response, header::CONTENT_LENGTH, length);
}

/// Takes the blob away from the repository.
pub(super) async fn delete(ask: &Ask, name: &RepositoryName, digest: Digest) -> Answer {
    ask.app.writable()?;
    let (access, registry, options) = (ask.access::<Delete>(name)?, ask.app.registry.clone(), ask.write());
    let delete = async move { registry.delete_blob(&access, &digest, &options).await };
    Ok(written(StatusCode::ACCEPTED, ask.to_its_end(delete).await?))
}

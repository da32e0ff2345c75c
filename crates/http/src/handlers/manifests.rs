//! Manifests.

use atoll_auth::{Delete, Pull, Push};
use atoll_registry::{ManifestBytes, PutTarget};
use atoll_types::{Digest, Reference, RepositoryName, Tag};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::{Answer, Ask, created, empty, set, set_number, written};
use crate::ApiError;
use crate::body::{Collected, ExactBody, RequestBody};
use crate::conditional::{client_has_it, entity_tag, expected};
use crate::headers::{DOCKER_CONTENT_DIGEST, InvalidHeader, OCI_SUBJECT, OCI_TAG};

/// Largest body of a manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = atoll_oci::MANIFEST_BYTES_MAX as u64;
/// Most tags of one put.
const TAGS_MAX: usize = 100;

/// The manifest.
pub(super) async fn get(ask: &Ask, name: &RepositoryName, reference: &Reference) -> Answer {
    let manifest = ask.app.registry.get_manifest(&ask.access::<Pull>(name)?, reference, &ask.read()).await?;
    if client_has_it(&ask.parts.headers, &manifest.digest) {
        return Ok(described(empty(StatusCode::NOT_MODIFIED), reference, &manifest.digest));
    }
    let body = match manifest.body {
        ManifestBytes::Whole(bytes) => Body::from(bytes),
        ManifestBytes::Stream(stream) => Body::new(ExactBody::new(stream, manifest.size)),
    };
    let mut response = described(Response::new(body), reference, &manifest.digest);
    set_number(&mut response, header::CONTENT_LENGTH, manifest.size);
    typed(&mut response, &manifest.media_type);
    Ok(response)
}

/// What the manifest is, without it.
pub(super) async fn head(ask: &Ask, name: &RepositoryName, reference: &Reference) -> Answer {
    let manifest = ask.app.registry.head_manifest(&ask.access::<Pull>(name)?, reference, &ask.read()).await?;
    if client_has_it(&ask.parts.headers, &manifest.digest) {
        return Ok(described(empty(StatusCode::NOT_MODIFIED), reference, &manifest.digest));
    }
    let mut response = described(empty(StatusCode::OK), reference, &manifest.digest);
    set_number(&mut response, header::CONTENT_LENGTH, manifest.size);
    typed(&mut response, &manifest.media_type);
    Ok(response)
}

/// The stored Content-Type, whatever the client accepts. It is the pusher's: a browser must not run it.
fn typed(response: &mut Response, media_type: &str) {
    set(response, header::CONTENT_TYPE, media_type);
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
}

/// The digest, and how long it may be kept: content never changes under its digest, but may under a tag.
fn described(mut response: Response, reference: &Reference, digest: &Digest) -> Response {
    set(&mut response, DOCKER_CONTENT_DIGEST, &digest.to_string());
    set(&mut response, header::ETAG, &entity_tag(digest));
    let cache = match reference {
        Reference::Digest(_) => super::blobs::IMMUTABLE,
        Reference::Tag(_) => "no-cache",
    };
    set(&mut response, header::CACHE_CONTROL, cache);
    response
}

/// Puts a manifest and moves tags to it.
pub(super) async fn put(ask: &Ask, name: RepositoryName, reference: Reference, body: RequestBody) -> Answer {
    ask.app.writable()?;
    let access = ask.access::<Push>(&name)?;
    let expected = expected(&ask.parts.headers)?;
    let extra_tags = tags(ask, &reference)?;
    let content_type = content_type(ask)?;
    let Collected { bytes, part } = body.collect(MANIFEST_BYTES_MAX, &ask.app.held).await?;
    let (registry, options) = (ask.app.registry.clone(), ask.write());
    let target = PutTarget { reference, extra_tags: extra_tags.clone(), expected };
    let put = async move {
        let _part = part;
        registry.put_manifest(&access, target, content_type.as_deref(), bytes, &options).await
    };
    let put = ask.to_its_end(put).await?;
    let mut response = created(&format!("/v2/{name}/manifests/{}", put.digest), &put.digest, put.revision);
    set(&mut response, header::ETAG, &entity_tag(&put.digest));
    if let Some(subject) = put.subject {
        set(&mut response, OCI_SUBJECT, &subject.to_string());
    }
    for tag in extra_tags {
        if let Ok(tag) = HeaderValue::from_str(tag.as_str()) {
            response.headers_mut().append(OCI_TAG, tag);
        }
    }
    Ok(response)
}

/// The tags of `?tag=`, which go with a digest.
fn tags(ask: &Ask, reference: &Reference) -> Result<Vec<Tag>, ApiError> {
    let tags = ask.query.all("tag").take(TAGS_MAX + 1);
    let tags = tags.map(str::parse).collect::<Result<Vec<Tag>, _>>().map_err(|e| ApiError::Tag(e.to_string()))?;
    match reference {
        Reference::Tag(_) if !tags.is_empty() => {
            Err(ApiError::Tag("tag parameters go with a put by digest; this one is by tag".to_owned()))
        }
        _ if tags.len() > TAGS_MAX => Err(ApiError::TooManyTags(TAGS_MAX)),
        _ => Ok(tags),
    }
}

fn content_type(ask: &Ask) -> Result<Option<String>, ApiError> {
    let value = ask.parts.headers.get(header::CONTENT_TYPE);
    let text = value.map(|v| v.to_str().map(str::to_owned).map_err(|_| InvalidHeader::ContentType));
    Ok(text.transpose()?)
}

/// Deletes a tag, or a manifest with its tags.
pub(super) async fn delete(ask: &Ask, name: &RepositoryName, reference: Reference) -> Answer {
    ask.app.writable()?;
    let (access, registry, options) = (ask.access::<Delete>(name)?, ask.app.registry.clone(), ask.write());
    let delete = async move { registry.delete_manifest(&access, &reference, &options).await };
    Ok(written(StatusCode::ACCEPTED, ask.to_its_end(delete).await?))
}

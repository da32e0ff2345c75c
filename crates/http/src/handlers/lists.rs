//! Tags, repositories, referrers.

use atoll_auth::Pull;
use atoll_types::{Digest, RepositoryName};
use axum::response::Response;
use http::header;
use serde_json::json;

use super::{Answer, Ask, json_bytes, set};
use crate::ApiError;
use crate::headers::OCI_FILTERS_APPLIED;
use crate::held::Held;
use crate::query::{PageRequest, encode};

/// A page of a repository's tags.
pub(super) async fn tags(ask: &Ask, name: &RepositoryName) -> Answer {
    let page = PageRequest::parse(&ask.query)?;
    let access = ask.access::<Pull>(name)?;
    let tags = ask.app.registry.list_tags(&access, page.last.as_deref(), page.entries, &ask.read()).await?;
    let items: Vec<&str> = tags.items.iter().map(|tag| tag.as_str()).collect();
    let mut response = listed(&ask.app.lists, &json!({ "name": name.as_str(), "tags": items }))?;
    if let Some(last) = items.last().filter(|_| tags.more) {
        set(&mut response, header::LINK, &page.next(ask.path(), last));
    }
    Ok(response)
}

/// A page of the repositories.
pub(super) async fn catalog(ask: &Ask) -> Answer {
    let page = PageRequest::parse(&ask.query)?;
    let names = ask.app.registry.catalog(page.last.as_deref(), page.entries, &ask.read()).await?;
    let items: Vec<&str> = names.items.iter().map(RepositoryName::as_str).collect();
    let mut response = listed(&ask.app.lists, &json!({ "repositories": items }))?;
    if let Some(last) = items.last().filter(|_| names.more) {
        set(&mut response, header::LINK, &page.next(ask.path(), last));
    }
    Ok(response)
}

/// A page of the manifests that refer to a subject.
pub(super) async fn referrers(ask: &Ask, name: &RepositoryName, subject: &Digest) -> Answer {
    let access = ask.access::<Pull>(name)?;
    let artifact_type = ask.query.get("artifactType");
    let after = ask.query.get("last").filter(|last| !last.is_empty()).map(str::parse).transpose();
    let after: Option<Digest> = after.map_err(|e: atoll_types::InvalidDigest| ApiError::Digest(e.to_string()))?;
    let page = ask.app.registry.referrers(&access, subject, artifact_type, after, &ask.read()).await?;
    let manifests: Vec<_> = page.items.iter().map(descriptor).collect();
    let mut response =
        listed(&ask.app.referrers, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))?;
    set(&mut response, header::CONTENT_TYPE, INDEX);
    if artifact_type.is_some() {
        set(&mut response, OCI_FILTERS_APPLIED, "artifactType");
    }
    if let Some(next) = page.next {
        let filter = artifact_type.map_or(String::new(), |kind| format!("artifactType={}&", encode(kind)));
        set(
            &mut response,
            header::LINK,
            &format!("<{}?{filter}last={}>; rel=\"next\"", ask.path(), encode(&next.to_string())),
        );
    }
    Ok(response)
}

/// An answer of JSON that takes its part of the memory for lists until it was sent: many clients that are slow would take
/// all that there is.
fn listed(memory: &Held, value: &serde_json::Value) -> Result<Response, ApiError> {
    Ok(json_bytes(memory.keep(value.to_string().into())?))
}

/// What a referrers list is.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn descriptor(referrer: &atoll_registry::Referrer) -> serde_json::Value {
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest.to_string(),
        "size": referrer.size,
    });
    if !referrer.artifact_type.is_empty() {
        descriptor["artifactType"] = referrer.artifact_type.as_str().into();
    }
    if !referrer.annotations.is_empty() {
        let pairs = referrer.annotations.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        descriptor["annotations"] = pairs.collect::<serde_json::Map<_, _>>().into();
    }
    descriptor
}

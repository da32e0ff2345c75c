//! The one place where what went wrong becomes a status, an OCI error code and a body.

use atoll_blobstore::StoreError;
use atoll_metadata::Rejection;
use atoll_registry::{ProposeError, RegistryError};
use atoll_types::NodeId;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::conditional::InvalidPrecondition;
use crate::headers::{ATOLL_OUTCOME, InvalidHeader};
use crate::query::InvalidPage;
use crate::route::InvalidPath;

/// When to try again, in seconds: an election takes a few.
const RETRY_AFTER_S: &str = "2";
/// When to try again while a disk is nearly full, in seconds: somebody has to see to it.
const RETRY_AFTER_NO_ROOM_S: &str = "30";

/// Why a request is not answered as it was meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// A use case has no result.
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// The path names nothing.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A header cannot be understood.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// A page cannot be given.
    #[error(transparent)]
    Page(#[from] InvalidPage),
    /// A precondition cannot be understood.
    #[error(transparent)]
    Precondition(#[from] InvalidPrecondition),
    /// The path is there, the method is not; these are.
    #[error("this path takes {0}")]
    Method(&'static str),
    /// The digest of a request is missing or malformed.
    #[error("{0}")]
    Digest(String),
    /// A tag parameter is not a tag, or does not belong there.
    #[error("{0}")]
    Tag(String),
    /// More tags than one put takes.
    #[error("a put moves at most {0} tags")]
    TooManyTags(usize),
    /// The request is for another registry (`ns=`).
    #[error("this registry does not serve {0:?}")]
    ForeignNamespace(String),
    /// The node that holds the session cannot be reached.
    #[error("upload session is held by node {node}, which does not answer: {reason}; start a new one or try again")]
    OwnerUnreachable {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// The write was handed to another node, and the answer never came.
    #[error("node {node} was asked to finish the upload and did not answer: {reason}; the outcome is unknown")]
    OwnerSilent {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Too many requests at once.
    #[error("this node serves as many requests as it may; try again")]
    Overloaded,
    /// A bug.
    #[error("internal error; the log of this node has the details")]
    Panic,
}

/// How an error looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The status.
    pub(crate) status: StatusCode,
    /// OCI's code, or one of ours where OCI has none.
    pub(crate) code: &'static str,
}

const fn seen(status: StatusCode, code: &'static str) -> Seen {
    Seen { status, code }
}

/// Nothing was written; the same request may succeed soon.
const UNAVAILABLE: Seen = seen(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE");
/// Nobody can tell whether it was written.
const UNKNOWN_OUTCOME: Seen = seen(StatusCode::GATEWAY_TIMEOUT, "UNAVAILABLE");
const INTERNAL: Seen = seen(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL");

impl ApiError {
    /// The status and code.
    pub(crate) fn seen(&self) -> Seen {
        match self {
            Self::Registry(error) => of_registry(error),
            Self::Path(error) => of_path(error),
            Self::Header(InvalidHeader::ContentRange) => seen(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::Header(InvalidHeader::ContentType) => seen(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::Header(_) => seen(StatusCode::BAD_REQUEST, "HEADER_INVALID"),
            Self::Page(_) => seen(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
            Self::Precondition(_) => seen(StatusCode::BAD_REQUEST, "PRECONDITION_INVALID"),
            Self::Method(_) => seen(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::Digest(_) => seen(StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::Tag(_) => seen(StatusCode::BAD_REQUEST, "TAG_INVALID"),
            Self::TooManyTags(_) => seen(StatusCode::URI_TOO_LONG, "TAG_INVALID"),
            Self::ForeignNamespace(_) => seen(StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::OwnerUnreachable { .. } => UNAVAILABLE,
            Self::OwnerSilent { .. } => UNKNOWN_OUTCOME,
            Self::Overloaded => seen(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Panic => INTERNAL,
        }
    }

    /// Why a use case has no result, if that is what it is.
    pub(crate) fn registry(&self) -> Option<&RegistryError> {
        if let Self::Registry(error) = self { Some(error) } else { None }
    }

    fn retry_after(&self) -> &'static str {
        match self.registry() {
            Some(RegistryError::NoRoom(_)) => RETRY_AFTER_NO_ROOM_S,
            _ => RETRY_AFTER_S,
        }
    }

    /// True when a write may have happened or not.
    fn outcome_is_unknown(&self) -> bool {
        let unknown = |error: &RegistryError| {
            matches!(
                error,
                RegistryError::Propose(ProposeError::Unknown(_)) | RegistryError::Rejected(Rejection::Expired)
            )
        };
        matches!(self, Self::OwnerSilent { .. }) || self.registry().is_some_and(unknown)
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}

fn of_path(error: &InvalidPath) -> Seen {
    match error {
        InvalidPath::Unknown => seen(StatusCode::NOT_FOUND, "UNSUPPORTED"),
        InvalidPath::Encoding => seen(StatusCode::BAD_REQUEST, "NAME_INVALID"),
        InvalidPath::Name(_) => seen(StatusCode::BAD_REQUEST, "NAME_INVALID"),
        InvalidPath::Reference(_) => seen(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        InvalidPath::Digest(_) => seen(StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
    }
}

fn of_registry(error: &RegistryError) -> Seen {
    match error {
        RegistryError::Rejected(rejection) => of_rejection(rejection),
        RegistryError::Propose(ProposeError::NotProposed(_)) => UNAVAILABLE,
        RegistryError::Propose(ProposeError::Unknown(_)) => UNKNOWN_OUTCOME,
        RegistryError::Barrier(_) | RegistryError::ReadOnly { .. } => UNAVAILABLE,
        RegistryError::Elsewhere { .. } | RegistryError::Damaged { .. } => UNAVAILABLE,
        RegistryError::RevisionAhead { .. } => UNAVAILABLE,
        RegistryError::UploadBusy(_) | RegistryError::NoRoom(_) => UNAVAILABLE,
        RegistryError::Denied(_) => seen(StatusCode::FORBIDDEN, "DENIED"),
        RegistryError::DigestMismatch { .. } => seen(StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        RegistryError::UploadUnknown(_) => seen(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        RegistryError::UploadRange { .. } => seen(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
        RegistryError::SizeInvalid { .. } => seen(StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        RegistryError::BodyTorn(_) => seen(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID"),
        RegistryError::ManifestInvalid(_) => seen(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        RegistryError::ManifestTooLarge { .. } => seen(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        RegistryError::Busy(_) => seen(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        RegistryError::Store(StoreError::Full(_) | StoreError::Unavailable(_)) => UNAVAILABLE,
        RegistryError::Store(_) | RegistryError::View(_) => INTERNAL,
    }
}

fn of_rejection(rejection: &Rejection) -> Seen {
    match rejection {
        Rejection::RepositoryUnknown(_) => seen(StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        Rejection::ManifestUnknown(_) | Rejection::TagUnknown(_) => seen(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        Rejection::BlobUnknown(_) => seen(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        Rejection::BlobsMissing(_) | Rejection::ManifestsMissing(_) => {
            seen(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN")
        }
        Rejection::SizeMismatch { .. } => seen(StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        Rejection::TagConflict { .. } => seen(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED"),
        Rejection::Referenced { .. } => seen(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
        Rejection::Expired => seen(StatusCode::CONFLICT, "REQUEST_EXPIRED"),
        Rejection::RequestReused => seen(StatusCode::CONFLICT, "REQUEST_REUSED"),
        Rejection::MediaTypeConflict { .. } => seen(StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        Rejection::StaleEpoch => seen(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
        Rejection::Denied(_) => seen(StatusCode::FORBIDDEN, "DENIED"),
        Rejection::TooLarge(_) => seen(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        Rejection::FeatureLevel(_) | Rejection::WrongCluster => UNAVAILABLE,
        Rejection::StoreMismatch(_) | Rejection::RegionUnknown(_) => UNAVAILABLE,
        Rejection::NodeConflict(_) | Rejection::JobUnknown(_) => INTERNAL,
    }
}

/// An error body in OCI's form.
pub(crate) fn body(code: &str, message: &str) -> String {
    json!({ "errors": [{ "code": code, "message": message }] }).to_string()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Seen { status, code } = self.seen();
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(error = %self, code, "a request failed");
        }
        let mut response = Response::new(Body::from(body(code, &self.to_string())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(self.retry_after()));
        }
        if self.outcome_is_unknown() {
            headers.insert(ATOLL_OUTCOME, HeaderValue::from_static("unknown"));
        }
        if let Self::Method(allowed) = self {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_registry::{BarrierError, NoRoom};
    use atoll_types::{Digest, RegionId, Revision};
    use http_body_util::BodyExt;

    fn region() -> RegionId {
        "eu-west".parse().unwrap()
    }

    fn no_room() -> RegistryError {
        NoRoom { folder: "/data".into(), free_bytes: 1 << 20, needed_bytes: 2 << 20 }.into()
    }

    /// Errors of every kind, with what a client sees of them.
    fn table() -> Vec<(ApiError, u16, &'static str)> {
        let digest = Digest::sha256(b"x");
        let of = |error: RegistryError| ApiError::from(error);
        let refused = |rejection: Rejection| ApiError::from(RegistryError::from(rejection));
        vec![
            (of(RegistryError::ReadOnly { region: region() }), 503, "UNAVAILABLE"),
            (of(RegistryError::Elsewhere { digest, regions: vec![region()] }), 503, "UNAVAILABLE"),
            (of(RegistryError::Damaged { digest, regions: vec![region()] }), 503, "UNAVAILABLE"),
            (of(BarrierError::NoQuorum.into()), 503, "UNAVAILABLE"),
            (of(ProposeError::NotProposed("no leader".into()).into()), 503, "UNAVAILABLE"),
            (of(ProposeError::Unknown("lost".into()).into()), 504, "UNAVAILABLE"),
            (of(RegistryError::RevisionAhead { asked: Revision(9), applied: Revision(1) }), 503, "UNAVAILABLE"),
            (of(RegistryError::UploadUnknown("s".into())), 404, "BLOB_UPLOAD_UNKNOWN"),
            (of(RegistryError::UploadRange { stated: 5, offset: 1 }), 416, "BLOB_UPLOAD_INVALID"),
            (of(RegistryError::SizeInvalid { stated: 5, actual: 1 }), 400, "SIZE_INVALID"),
            (of(RegistryError::ManifestTooLarge { actual: 5, limit: 1 }), 413, "SIZE_INVALID"),
            (of(RegistryError::ManifestInvalid("no".into())), 400, "MANIFEST_INVALID"),
            (of(RegistryError::Busy("full".into())), 429, "TOOMANYREQUESTS"),
            (of(no_room()), 503, "UNAVAILABLE"),
            (of(StoreError::Full("disk".into()).into()), 503, "UNAVAILABLE"),
            (of(StoreError::Other("bad".into()).into()), 500, "INTERNAL"),
            (refused(Rejection::ManifestUnknown(digest)), 404, "MANIFEST_UNKNOWN"),
            (refused(Rejection::BlobUnknown(digest)), 404, "BLOB_UNKNOWN"),
            (refused(Rejection::BlobsMissing(vec![digest])), 404, "MANIFEST_BLOB_UNKNOWN"),
            (refused(Rejection::Referenced { digest, by: digest }), 405, "UNSUPPORTED"),
            (refused(Rejection::TagConflict { tag: "v".parse().unwrap(), found: None }), 412, "PRECONDITION_FAILED"),
            (refused(Rejection::Expired), 409, "REQUEST_EXPIRED"),
            (InvalidPath::Unknown.into(), 404, "UNSUPPORTED"),
            (InvalidHeader::MinRevision.into(), 400, "HEADER_INVALID"),
            (ApiError::Method("GET"), 405, "UNSUPPORTED"),
            (ApiError::OwnerUnreachable { node: NodeId(7), reason: "refused".into() }, 503, "UNAVAILABLE"),
            (ApiError::OwnerSilent { node: NodeId(7), reason: "silence".into() }, 504, "UNAVAILABLE"),
            (ApiError::Overloaded, 429, "TOOMANYREQUESTS"),
            (ApiError::Panic, 500, "INTERNAL"),
        ]
    }

    #[tokio::test]
    async fn every_error_has_its_status_its_code_and_a_message() {
        for (error, status, code) in table() {
            let (what, message) = (format!("{error:?}"), error.to_string());
            let response = error.into_response();
            assert_eq!(response.status(), status, "{what}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body, json!({ "errors": [{ "code": code, "message": message }] }), "{what}");
            assert!(!message.is_empty(), "{what}");
        }
    }

    #[test]
    fn who_may_try_again_is_told_and_who_cannot_know_too() {
        for (error, status, _) in table() {
            let what = format!("{error:?}");
            let unknown = status == 504 || error.to_string() == Rejection::Expired.to_string();
            let response = error.into_response();
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), matches!(status, 429 | 503), "{what}");
            assert_eq!(response.headers().contains_key(ATOLL_OUTCOME), unknown, "{what}");
        }
    }

    #[test]
    fn a_message_cannot_break_out_of_its_body() {
        let body = body("CODE", "\"}],\r\nX-Injected: 1");
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed["errors"][0]["message"], "\"}],\r\nX-Injected: 1");
        assert!(!body.contains('\n'));
    }
}

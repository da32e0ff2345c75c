//! What an error of the SDK or of a server means for the store.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;

use crate::StoreError;

/// Why a request failed, as far as the store goes on differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No object of that key, or no such bucket: a HEAD cannot say which.
    Missing,
    /// The bucket is not there.
    NoBucket,
    /// There is an object of that key already.
    Exists,
    /// The multipart upload is not there, or not any more.
    NoUpload,
    /// The range lies outside.
    Range,
    /// The server does not know what it was asked for.
    NotImplemented,
    /// No room.
    Full,
    /// It may pass.
    Transient,
    /// Anything else.
    Other,
}

/// A failed request.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// Whether the server may have done what it was asked for all the same.
    pub(super) maybe_done: bool,
    /// Store, bucket, operation, key and what the server said, with a cure where there is one.
    pub(super) text: String,
}

impl Failure {
    /// Reads an error. `what` names the operation, its bucket and its key.
    pub(super) fn of<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default();
        let cause = cause(error, status, code);
        let said = match error {
            SdkError::ServiceError(_) => {
                let status = status.map_or_else(String::new, |status| format!(" ({status})"));
                let message = error.message().unwrap_or("no message");
                let request = error.request_id().map_or_else(String::new, |id| format!(", request {id}"));
                let code = if code.is_empty() { "an error without a code" } else { code };
                format!("{code}{status}: {message}{request}")
            }
            other => said(other),
        };
        let cure = cure(code, status).map_or_else(String::new, |cure| format!("; {cure}"));
        // A 409 or 412 may be the answer to a second try, whose first one was heard; so may "no such upload".
        let maybe_done = !matches!(error, SdkError::ConstructionFailure(_))
            && status.is_none_or(|s| s >= 500 || matches!(s, 200 | 403 | 404 | 409 | 412));
        Self { cause, maybe_done, text: format!("{what}: {said}{cure}") }
    }

    /// For who has nothing to go on with.
    pub(super) fn into_store_error(self) -> StoreError {
        match self.cause {
            Cause::Full => StoreError::Full(self.text),
            // A bucket that is not there may come back; what is in it must not count as lost.
            Cause::Transient | Cause::NoBucket => StoreError::Unavailable(self.text),
            _ => StoreError::Other(self.text),
        }
    }
}

fn cause<E>(error: &SdkError<E, HttpResponse>, status: Option<u16>, code: &str) -> Cause {
    if !matches!(error, SdkError::ServiceError(_)) {
        return match error {
            SdkError::ConstructionFailure(_) => Cause::Other,
            _ => Cause::Transient,
        };
    }
    match (code, status) {
        ("NoSuchBucket", _) => Cause::NoBucket,
        ("NoSuchUpload", _) => Cause::NoUpload,
        ("NoSuchKey" | "NotFound", _) => Cause::Missing,
        ("PreconditionFailed", _) | (_, Some(412)) => Cause::Exists,
        ("InvalidRange", _) | (_, Some(416)) => Cause::Range,
        ("NotImplemented", _) | (_, Some(501)) => Cause::NotImplemented,
        ("XMinioStorageFull" | "InsufficientStorage" | "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded", _)
        | (_, Some(507)) => Cause::Full,
        (
            "SlowDown"
            | "InternalError"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "TooManyRequests"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "OperationAborted"
            | "ConditionalRequestConflict",
            _,
        )
        | (_, Some(409 | 429 | 500 | 502 | 503 | 504)) => Cause::Transient,
        (_, Some(404)) => Cause::Missing,
        _ => Cause::Other,
    }
}

fn cure(code: &str, status: Option<u16>) -> Option<&'static str> {
    Some(match (code, status) {
        ("NoSuchBucket", _) => "make the bucket, or correct its name in the node's configuration",
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity" | "ExpiredToken" | "InvalidToken", _) => {
            "correct the node's credentials for the store"
        }
        ("RequestTimeTooSkewed", _) => "set the clock of this machine",
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _) => {
            "correct the store's region or endpoint in the node's configuration"
        }
        ("AccessDenied" | "AllAccessDisabled" | "MethodNotAllowed", _) | (_, Some(403)) => {
            "let the node's credentials list, read, write and delete in the bucket"
        }
        ("SlowDown" | "TooManyRequests", _) | (_, Some(429)) => "the server asks for fewer requests",
        _ => return None,
    })
}

/// An error and what brought it about, on one line.
pub(super) fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut all: Vec<String> = causes.collect();
    all.dedup();
    all.join(": ")
}

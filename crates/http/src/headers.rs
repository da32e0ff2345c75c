//! Names of the headers that are not HTTP's own, and Atoll's request headers.

use atoll_types::{RequestId, Revision};
use http::{HeaderMap, HeaderName, HeaderValue};

/// `registry/2.0` on every answer.
pub const DOCKER_API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Digest of what is answered or was written.
pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Id of an upload session.
pub const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Smallest chunk that is taken; the last may be smaller.
pub const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// The filters that a referrers list went through.
pub const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The subject of a manifest that was put.
pub const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that a put by digest moved.
pub const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// The client of a forwarded request; believed from a node of this cluster alone.
pub const ATOLL_CLIENT_ADDRESS: HeaderName = HeaderName::from_static("atoll-client-address");
/// How a read is to be made: `linearizable`.
pub const ATOLL_CONSISTENCY: HeaderName = HeaderName::from_static("atoll-consistency");
/// The node that forwarded a request; there is one hop and no more.
pub const ATOLL_FORWARDED_BY: HeaderName = HeaderName::from_static("atoll-forwarded-by");
/// A revision that must be applied before a read.
pub const ATOLL_MIN_REVISION: HeaderName = HeaderName::from_static("atoll-min-revision");
/// `unknown` when nobody can tell whether a write happened.
pub const ATOLL_OUTCOME: HeaderName = HeaderName::from_static("atoll-outcome");
/// A client's own name for a write: `<last Atoll-Revision it saw>-<32 hex>`.
pub const ATOLL_REQUEST_ID: HeaderName = HeaderName::from_static("atoll-request-id");
/// The revision of a write.
pub const ATOLL_REVISION: HeaderName = HeaderName::from_static("atoll-revision");
/// How old the answering node's view may be, in milliseconds, or `unknown`.
pub const ATOLL_STALENESS_MS: HeaderName = HeaderName::from_static("atoll-staleness-ms");

/// A request header of Atoll's that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// `Atoll-Consistency`.
    #[error("Atoll-Consistency is `linearizable` or absent")]
    Consistency,
    /// `Atoll-Min-Revision`.
    #[error("Atoll-Min-Revision is a revision, as an Atoll-Revision header gave it: digits only, of at most 64 bits")]
    MinRevision,
    /// `Atoll-Request-Id`.
    #[error("Atoll-Request-Id has the form <last Atoll-Revision seen>-<32 lower-case hexadecimal digits>")]
    RequestId,
    /// `Content-Range` of a chunk.
    #[error("Content-Range of a chunk is <first>-<last>, both inclusive")]
    ContentRange,
    /// `Content-Type`.
    #[error("Content-Type is one media type, in visible ASCII characters")]
    ContentType,
}

/// What a request's headers ask for, beside the request itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// A read goes through a barrier.
    pub linearizable: bool,
    /// A read waits for this revision.
    pub min_revision: Option<Revision>,
    /// A write's own name, and the revision that its client had seen.
    pub request: Option<(Revision, RequestId)>,
}

impl Wishes {
    /// Reads the headers.
    pub fn of(headers: &HeaderMap) -> Result<Self, InvalidHeader> {
        let linearizable = match headers.get(ATOLL_CONSISTENCY).map(HeaderValue::as_bytes) {
            None => false,
            Some(b"linearizable") => true,
            Some(_) => return Err(InvalidHeader::Consistency),
        };
        let min_revision =
            headers.get(ATOLL_MIN_REVISION).map(|v| revision(v.as_bytes()).ok_or(InvalidHeader::MinRevision));
        let request = headers.get(ATOLL_REQUEST_ID).map(|v| request_id(v).ok_or(InvalidHeader::RequestId));
        Ok(Self { linearizable, min_revision: min_revision.transpose()?, request: request.transpose()? })
    }
}

fn revision(digits: &[u8]) -> Option<Revision> {
    let text = std::str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse().ok().map(Revision)
}

fn request_id(value: &HeaderValue) -> Option<(Revision, RequestId)> {
    let (seen, id) = value.to_str().ok()?.split_once('-')?;
    Some((revision(seen.as_bytes())?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wishes(name: HeaderName, value: &str) -> Result<Wishes, InvalidHeader> {
        Wishes::of(&HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]))
    }

    #[test]
    fn a_header_is_understood_or_refused() {
        assert_eq!(Wishes::of(&HeaderMap::new()), Ok(Wishes::default()));
        assert!(wishes(ATOLL_CONSISTENCY, "linearizable").unwrap().linearizable);
        assert_eq!(wishes(ATOLL_CONSISTENCY, "sometimes"), Err(InvalidHeader::Consistency));
        assert_eq!(wishes(ATOLL_MIN_REVISION, "7").unwrap().min_revision, Some(Revision(7)));
        for bad in ["abc", "-1", "+1", "", "999999999999999999999999999999"] {
            assert_eq!(wishes(ATOLL_MIN_REVISION, bad), Err(InvalidHeader::MinRevision), "{bad}");
        }
        for bad in ["7", "-", "x-00000000000000000000000000000001", "7-00", "7-0000000000000000000000000000000G"] {
            assert_eq!(wishes(ATOLL_REQUEST_ID, bad), Err(InvalidHeader::RequestId), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_request_id_round_trips(seen: u64, id: [u8; 16]) {
            let id = RequestId::from_bytes(id);
            let request = wishes(ATOLL_REQUEST_ID, &format!("{seen}-{id}")).unwrap().request;
            prop_assert_eq!(request, Some((Revision(seen), id)));
        }
    }
}

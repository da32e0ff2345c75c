//! Conditional requests (RFC 9110, section 13). An entity tag is a quoted digest.

use atoll_metadata::Expected;
use atoll_types::Digest;
use http::{HeaderMap, header};

/// The entity tag of content with a digest.
pub(crate) fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// True when `If-None-Match` names the digest: the client has it, 304 is enough.
pub(crate) fn client_has_it(headers: &HeaderMap, digest: &Digest) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).any(|value| lists(value, digest))
}

fn lists(value: &str, digest: &Digest) -> bool {
    let tag = entity_tag(digest);
    value.trim() == "*" || value.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

/// True unless `If-Range` names other content than this. A date is never a match: content has none.
pub(crate) fn range_applies(headers: &HeaderMap, digest: &Digest) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == entity_tag(digest).as_bytes())
}

/// A precondition of a put that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a manifest put takes If-None-Match: * (the tag must not exist) or If-Match: \"<digest>\" (the tag must point there), one of them"
)]
pub(crate) struct InvalidPrecondition;

/// What a put expects the tag to be.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Expected, InvalidPrecondition> {
    let text = |name| headers.get(name).map(|v| v.to_str().map_err(|_| InvalidPrecondition)).transpose();
    match (text(header::IF_MATCH)?, text(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Expected::Any),
        (None, Some(value)) if value.trim() == "*" => Ok(Expected::Absent),
        (Some(value), None) => {
            let digest = value.trim().strip_prefix('"').and_then(|v| v.strip_suffix('"')).ok_or(InvalidPrecondition)?;
            digest.parse().map(Expected::Digest).map_err(|_| InvalidPrecondition)
        }
        _ => Err(InvalidPrecondition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_that_has_it_is_recognised() {
        let digest = Digest::sha256(b"x");
        for value in [entity_tag(&digest), format!("\"other\", W/{}", entity_tag(&digest)), "*".to_owned()] {
            assert!(client_has_it(&headers(&[(header::IF_NONE_MATCH, &value)]), &digest), "{value}");
        }
        assert!(!client_has_it(&headers(&[(header::IF_NONE_MATCH, "\"other\"")]), &digest));
        assert!(!client_has_it(&HeaderMap::new(), &digest));
    }

    #[test]
    fn a_range_of_other_content_is_not_given() {
        let digest = Digest::sha256(b"x");
        assert!(range_applies(&HeaderMap::new(), &digest));
        assert!(range_applies(&headers(&[(header::IF_RANGE, &entity_tag(&digest))]), &digest));
        for other in ["\"sha256:other\"", "Tue, 24 Nov 2026 21:00:00 GMT"] {
            assert!(!range_applies(&headers(&[(header::IF_RANGE, other)]), &digest));
        }
    }

    #[test]
    fn a_put_expects_what_its_headers_say() {
        let digest = Digest::sha256(b"x");
        let tag = entity_tag(&digest);
        assert_eq!(expected(&HeaderMap::new()), Ok(Expected::Any));
        assert_eq!(expected(&headers(&[(header::IF_NONE_MATCH, "*")])), Ok(Expected::Absent));
        assert_eq!(expected(&headers(&[(header::IF_MATCH, &tag)])), Ok(Expected::Digest(digest)));
        for bad in [
            headers(&[(header::IF_MATCH, "*")]),
            headers(&[(header::IF_MATCH, "\"junk\"")]),
            headers(&[(header::IF_NONE_MATCH, &tag)]),
            headers(&[(header::IF_MATCH, &tag), (header::IF_NONE_MATCH, "*")]),
        ] {
            assert_eq!(expected(&bad), Err(InvalidPrecondition));
        }
    }
}

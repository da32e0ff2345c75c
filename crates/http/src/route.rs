//! One parser of request paths. Repository names contain slashes, so that a path is read from its end.

use atoll_types::{Digest, InvalidDigest, InvalidName, InvalidReference, Reference, RepositoryName};
use percent_encoding::percent_decode_str;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/livez`: the process answers.
    Live,
    /// `/readyz`: whether pulls, or pushes, can be served.
    Ready,
    /// `/v2/`.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`.
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`.
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/referrers/<digest>`.
    Referrers(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`.
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<session>`.
    Upload(RepositoryName, String),
}

/// Why a path names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPath {
    /// None of the API's paths.
    #[error("no such path; the API starts at /v2/")]
    Unknown,
    /// The path is percent-encoded in a way that could mean two things.
    #[error("a path has no encoded slashes, percent signs or control characters, and is UTF-8")]
    Encoding,
    /// The repository's name is not one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The reference is neither a tag nor a digest.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The digest is not one.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl Route {
    /// Reads a path as it stands in the request line.
    pub(crate) fn parse(path: &str) -> Result<Self, InvalidPath> {
        match path {
            "/livez" => return Ok(Self::Live),
            "/readyz" => return Ok(Self::Ready),
            "/v2" | "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/").ok_or(InvalidPath::Unknown)?;
        let segments = rest.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match segments.as_slice() {
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", session] => Ok(Self::Upload(repository(name)?, (*session).to_owned())),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "manifests", reference] => Ok(Self::Manifest(repository(name)?, reference.parse()?)),
            [name @ .., "blobs", digest] => Ok(Self::Blob(repository(name)?, digest.parse()?)),
            [name @ .., "referrers", digest] => Ok(Self::Referrers(repository(name)?, digest.parse()?)),
            _ => Err(InvalidPath::Unknown),
        }
    }

    /// The route's template, for metrics and spans.
    pub(crate) const fn template(&self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Base => "/v2/",
            Self::Catalog => "/v2/_catalog",
            Self::Tags(_) => "/v2/{name}/tags/list",
            Self::Manifest(..) => "/v2/{name}/manifests/{reference}",
            Self::Blob(..) => "/v2/{name}/blobs/{digest}",
            Self::Referrers(..) => "/v2/{name}/referrers/{digest}",
            Self::Uploads(_) => "/v2/{name}/blobs/uploads/",
            Self::Upload(..) => "/v2/{name}/blobs/uploads/{session}",
        }
    }
}

fn repository(segments: &[&str]) -> Result<RepositoryName, InvalidName> {
    segments.join("/").parse()
}

/// Decodes one segment, once. What would look different after a second decoding, or split differently, is refused.
fn decode(segment: &str) -> Result<std::borrow::Cow<'_, str>, InvalidPath> {
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| InvalidPath::Encoding)?;
    let refused = |c: char| matches!(c, '/' | '\\' | '%') || c.is_control();
    if decoded.contains(refused) { Err(InvalidPath::Encoding) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn names_with_slashes_and_telling_components_are_read_from_the_end() {
        let digest = Digest::sha256(b"x");
        for (path, route) in [
            ("/v2/a/b/c/manifests/v1".to_owned(), Route::Manifest(name("a/b/c"), "v1".parse().unwrap())),
            ("/v2/a/tags/manifests/list".to_owned(), Route::Manifest(name("a/tags"), "list".parse().unwrap())),
            ("/v2/a/manifests/tags/list".to_owned(), Route::Tags(name("a/manifests"))),
            (
                "/v2/a/blobs/uploads/manifests/v1".to_owned(),
                Route::Manifest(name("a/blobs/uploads"), "v1".parse().unwrap()),
            ),
            (format!("/v2/a/blobs/uploads/blobs/{digest}"), Route::Blob(name("a/blobs/uploads"), digest)),
            (format!("/v2/a/blobs/sha256%3A{}", &digest.to_string()[7..]), Route::Blob(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/eu.1.ff".to_owned(), Route::Upload(name("a"), "eu.1.ff".to_owned())),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
        ] {
            assert_eq!(Route::parse(&path), Ok(route), "{path}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for path in [
            "/v2/bad%2Fr/tags/list",
            "/v2/bad%252Fr/tags/list",
            "/v2/bad/%00/tags/list",
            "/v2/bad%5Cr/tags/list",
            "/v2/b%FFd/tags/list",
            "/v2/a/manifests/v%0d%0aX-Injected:%201",
            "/v2/a/blobs/uploads/..%2f..",
        ] {
            assert_eq!(Route::parse(path), Err(InvalidPath::Encoding), "{path}");
        }
        for path in
            ["/v2/%2e%2e/%2e%2e/etc/tags/list", "/v2/a/../../etc/tags/list", "/v2/bad//r/tags/list", "/v2/tags/list"]
        {
            assert!(matches!(Route::parse(path), Err(InvalidPath::Name(_))), "{path}");
        }
        for path in ["", "/", "*", "/v1/", "/v2/a", "/v2/a/b", "/v2/a/tags", "/v2/a/tags/list/"] {
            assert_eq!(Route::parse(path), Err(InvalidPath::Unknown), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_the_parser_panic(path: String) {
            let _ = Route::parse(&path);
            let _ = Route::parse(&format!("/v2/{path}/manifests/{path}"));
        }

        #[test]
        fn what_was_put_together_is_taken_apart(
            repository in "[a-z0-9]{1,8}(/(blobs|uploads|manifests|tags|list|referrers|[a-z0-9]{1,8})){0,4}",
            tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}",
        ) {
            let path = format!("/v2/{repository}/manifests/{tag}");
            prop_assert_eq!(Route::parse(&path), Ok(Route::Manifest(name(&repository), tag.parse().unwrap())));
            let path = format!("/v2/{repository}/tags/list");
            prop_assert_eq!(Route::parse(&path), Ok(Route::Tags(name(&repository))));
            let path = format!("/v2/{repository}/blobs/uploads/");
            prop_assert_eq!(Route::parse(&path), Ok(Route::Uploads(name(&repository))));
        }
    }
}

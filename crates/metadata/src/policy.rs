//! The one place that is asked before a tag moves or anything is deleted. It admits everything until policies exist.

use atoll_types::{Digest, RepositoryName, Tag};

use crate::Rejection;

/// What is about to happen in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// A tag is created, or moves.
    MoveTag {
        /// The tag.
        tag: &'a Tag,
        /// Where it points; `None`: it does not exist.
        from: Option<Digest>,
        /// Where it will point.
        to: Digest,
    },
    /// A tag is deleted by name.
    DeleteTag {
        /// The tag.
        tag: &'a Tag,
        /// Where it points.
        from: Digest,
    },
    /// A manifest is deleted, with its tags.
    DeleteManifest {
        /// The manifest.
        digest: Digest,
    },
    /// A blob's link is deleted.
    DeleteBlob {
        /// The blob.
        digest: Digest,
    },
}

/// Why an actor may not do it; `None` admits it.
pub(crate) const fn refusal(_actor: &str, _repository: &RepositoryName, _action: &Action<'_>) -> Option<Rejection> {
    None
}

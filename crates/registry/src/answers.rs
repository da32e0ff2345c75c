//! What the use cases answer.

use atoll_blobstore::ByteStream;
use atoll_types::{Digest, Revision, Tag};
use bytes::Bytes;

/// A manifest.
pub struct ManifestAnswer {
    /// Its digest.
    pub digest: Digest,
    /// The Content-Type it was put with.
    pub media_type: String,
    /// Size of its body in bytes.
    pub size: u64,
    /// Its body, which has that digest.
    pub body: ManifestBytes,
}

/// The body of a manifest.
pub enum ManifestBytes {
    /// Of a small one, which is a part of the metadata.
    Whole(Bytes),
    /// Of a large one, which is read as blobs are: many at once are not held in memory.
    Stream(ByteStream),
}

/// A manifest without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest.
    pub digest: Digest,
    /// The Content-Type it was put with.
    pub media_type: String,
    /// Size of its body in bytes.
    pub size: u64,
}

/// What came of a manifest put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAnswer {
    /// The body's digest.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// The tags that point to it now.
    pub tags: Vec<Tag>,
    /// The change.
    pub revision: Revision,
    /// False if the very same manifest was there before.
    pub created: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in order.
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A manifest that refers to a subject, as the referrers API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its artifact type, or empty.
    pub artifact_type: String,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
}

/// A page of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrersPage {
    /// The entries, by digest. A page may be short, or empty, and still not be the last: a filter is applied after the
    /// page was cut.
    pub items: Vec<Referrer>,
    /// Ask for what comes after this one; `None` at the end.
    pub next: Option<Digest>,
}

/// A blob that a repository links, and that its holder may read. Only a [`crate::Registry`] makes one: it is what
/// permits reading the bytes.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobHandle {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A repository links a blob now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The blob.
    pub digest: Digest,
    /// The change.
    pub revision: Revision,
}

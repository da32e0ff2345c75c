//! Puts of manifests.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use super::{Decoded, at_most, digest, digest_bytes, digest_opt, invalid, missing, parse, text};
use crate::{Command, Expected, ManifestBody, ManifestReference, PutManifest, TagUpdate};

/// Longest media type or artifact type, in bytes.
const TYPE_BYTES_MAX: usize = 1_024;

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutManifestMessage {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(string, tag = "3")]
    media_type: String,
    #[prost(bytes = "bytes", optional, tag = "4")]
    inline: Option<Bytes>,
    #[prost(uint64, optional, tag = "5")]
    stored_bytes: Option<u64>,
    #[prost(message, repeated, tag = "6")]
    references: Vec<ReferenceMessage>,
    #[prost(bytes = "vec", tag = "7")]
    subject: Vec<u8>,
    #[prost(string, tag = "8")]
    artifact_type: String,
    #[prost(message, optional, tag = "9")]
    annotations: Option<AnnotationsMessage>,
    #[prost(message, repeated, tag = "10")]
    tags: Vec<TagUpdateMessage>,
}

#[derive(Clone, PartialEq, Message)]
/// A reference, in a command and in the state.
pub(crate) struct ReferenceMessage {
    /// What is referred to.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    /// Of a blob; absent for a manifest.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) blob_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnnotationsMessage {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

impl AnnotationsMessage {
    pub(crate) fn of(pairs: &[(String, String)]) -> Self {
        let pair = |(key, value): &(String, String)| Pair { key: key.clone(), value: value.clone() };
        Self { pairs: pairs.iter().map(pair).collect() }
    }

    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
    }
}

#[derive(Clone, PartialEq, Message)]
struct TagUpdateMessage {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(bool, tag = "2")]
    expect_absent: bool,
    #[prost(bytes = "vec", tag = "3")]
    expect_digest: Vec<u8>,
}

impl PutManifestMessage {
    pub(super) fn of(put: &PutManifest) -> Self {
        let (inline, stored_bytes) = match &put.body {
            ManifestBody::Inline(body) => (Some(body.clone()), None),
            ManifestBody::Stored { size } => (None, Some(*size)),
        };
        Self {
            repository: put.repository.to_string(),
            digest: put.digest.to_bytes(),
            media_type: put.media_type.clone(),
            inline,
            stored_bytes,
            references: put.references.iter().map(ReferenceMessage::of).collect(),
            subject: digest_bytes(put.subject.as_ref()),
            artifact_type: put.artifact_type.clone(),
            annotations: put.annotations.as_deref().map(AnnotationsMessage::of),
            tags: put.tags.iter().map(TagUpdateMessage::of).collect(),
        }
    }

    pub(super) fn checked(self) -> Decoded<PutManifest> {
        at_most("references", &self.references, Command::REFERENCES_MAX)?;
        at_most("tags", &self.tags, Command::TAGS_MAX)?;
        let body = match (self.inline, self.stored_bytes) {
            (Some(body), None) => inline(body)?,
            (None, Some(size)) => ManifestBody::Stored { size },
            _ => return Err(missing("body of a manifest")),
        };
        let subject = digest_opt(&self.subject)?;
        let annotations = self.annotations.map(AnnotationsMessage::into_pairs);
        if annotations.is_some() && (subject.is_none() || matches!(body, ManifestBody::Stored { .. })) {
            return Err(invalid("annotations", "they travel only with a subject and an inline body"));
        }
        Ok(PutManifest {
            repository: parse("repository", &self.repository)?,
            digest: digest(&self.digest)?,
            media_type: text("media type", self.media_type, TYPE_BYTES_MAX)?,
            body,
            references: self.references.into_iter().map(ReferenceMessage::checked).collect::<Decoded<_>>()?,
            subject,
            artifact_type: text("artifact type", self.artifact_type, TYPE_BYTES_MAX)?,
            annotations: annotations.map(bounded_annotations).transpose()?,
            tags: distinct(self.tags.into_iter().map(TagUpdateMessage::checked).collect::<Decoded<_>>()?)?,
        })
    }
}

fn inline(body: Bytes) -> Decoded<ManifestBody> {
    if body.len() > Command::INLINE_BODY_BYTES_MAX {
        return Err(invalid("body of a manifest", "too long to travel in the log"));
    }
    Ok(ManifestBody::Inline(body))
}

/// Annotations come from the body, so they are never longer than it may be.
fn bounded_annotations(pairs: Vec<(String, String)>) -> Decoded<Vec<(String, String)>> {
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > Command::INLINE_BODY_BYTES_MAX || pairs.len() > Command::INLINE_BODY_BYTES_MAX {
        return Err(invalid("annotations", "longer than the body that they come from"));
    }
    Ok(pairs)
}

fn distinct(tags: Vec<TagUpdate>) -> Decoded<Vec<TagUpdate>> {
    let distinct: BTreeSet<_> = tags.iter().map(|update| &update.tag).collect();
    if distinct.len() == tags.len() { Ok(tags) } else { Err(invalid("tags", "a tag stands there twice")) }
}

impl ReferenceMessage {
    pub(crate) fn of(reference: &ManifestReference) -> Self {
        let blob_bytes = match reference {
            ManifestReference::Blob(_, size) => Some(*size),
            ManifestReference::Manifest(_) => None,
        };
        Self { digest: reference.digest().to_bytes(), blob_bytes }
    }

    pub(crate) fn checked(self) -> Decoded<ManifestReference> {
        let digest = digest(&self.digest)?;
        Ok(match self.blob_bytes {
            Some(size) => ManifestReference::Blob(digest, size),
            None => ManifestReference::Manifest(digest),
        })
    }
}

impl TagUpdateMessage {
    fn of(update: &TagUpdate) -> Self {
        let (expect_absent, expect_digest) = match &update.expected {
            Expected::Any => (false, Vec::new()),
            Expected::Absent => (true, Vec::new()),
            Expected::Digest(digest) => (false, digest.to_bytes()),
        };
        Self { tag: update.tag.to_string(), expect_absent, expect_digest }
    }

    fn checked(self) -> Decoded<TagUpdate> {
        let expected = match (self.expect_absent, digest_opt(&self.expect_digest)?) {
            (false, None) => Expected::Any,
            (true, None) => Expected::Absent,
            (false, Some(digest)) => Expected::Digest(digest),
            (true, Some(_)) => return Err(invalid("expectation", "a tag cannot be both absent and a digest")),
        };
        Ok(TagUpdate { tag: parse("tag", &self.tag)?, expected })
    }
}

//! Manifests: read, put, deleted.

use atoll_auth::{Access, Delete, Pull, Push};
use atoll_fault::{planted, step};
use atoll_metadata::{
    Command, Done, Expected, KvError, KvRead, ManifestBody, ManifestReference, PutManifest, Rejection, TagUpdate, read,
};
use atoll_oci::{MANIFEST_BYTES_MAX, ParsedManifest, ReferenceKind};
use atoll_types::{Algorithm, Digest, Reference, RepositoryName, Revision, Tag};
use bytes::Bytes;

use crate::planted;
use crate::view::Found;
use crate::{
    ManifestAnswer, ManifestBytes, ManifestHead, PutAnswer, ReadOptions, Registry, RegistryError, WriteOptions,
};

/// Where a manifest is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutTarget {
    /// A tag, or the body's digest.
    pub reference: Reference,
    /// More tags to move to it; all or none move.
    pub extra_tags: Vec<Tag>,
    /// What every tag must be before. Of a put that moves no tag it demands nothing.
    pub expected: Expected,
}

fn find(kv: &dyn KvRead, name: &RepositoryName, reference: &Reference) -> Result<Found<read::Manifest>, KvError> {
    let digest = match reference {
        Reference::Digest(digest) => *digest,
        Reference::Tag(tag) => match planted::tag(name, tag, read::tag(kv, name, tag)?.map(|(digest, _)| digest)) {
            Some(digest) => digest,
            None if read::repository_exists(kv, name)? => return Ok(Err(Rejection::TagUnknown(tag.clone()))),
            None => return Ok(Err(Rejection::RepositoryUnknown(name.clone()))),
        },
    };
    match planted::manifest(name, &digest, read::manifest(kv, name, &digest)?) {
        Some(manifest) => Ok(Ok(manifest)),
        None if read::repository_exists(kv, name)? => Ok(Err(Rejection::ManifestUnknown(digest))),
        None => Ok(Err(Rejection::RepositoryUnknown(name.clone()))),
    }
}

/// A manifest that need not be pushed again. A body that is stored, and whose last copy is lost or suspect, must be.
fn find_sound(kv: &dyn KvRead, name: &RepositoryName, reference: &Reference) -> Result<Found<read::Manifest>, KvError> {
    let found = find(kv, name, reference)?;
    if let Ok(read::Manifest { digest, body: ManifestBody::Stored { .. }, .. }) = &found
        && !read::blob(kv, digest)?.is_some_and(|blob| blob.is_sound())
    {
        return Ok(Err(Rejection::ManifestUnknown(*digest)));
    }
    Ok(found)
}

impl Registry {
    /// A manifest by tag or digest.
    pub async fn get_manifest(
        &self,
        access: &Access<Pull>,
        reference: &Reference,
        options: &ReadOptions,
    ) -> Result<ManifestAnswer, RegistryError> {
        self.settle_for(access, reference, options).await?;
        let manifest = self.view.look_twice(options, |kv| find(kv, access.repository(), reference)).await?;
        let read::Manifest { digest, media_type, body, .. } = manifest;
        let size = body.size();
        let body = match body {
            ManifestBody::Inline(bytes) => ManifestBytes::Whole(bytes),
            ManifestBody::Stored { .. } => ManifestBytes::Stream(self.reader.read(&digest, size, 0..size).await?),
        };
        Ok(ManifestAnswer { digest, media_type, size, body })
    }

    /// What a manifest is, without its body. One whose body is stored and can probably not be read is not there, so
    /// that clients push it again.
    pub async fn head_manifest(
        &self,
        access: &Access<Pull>,
        reference: &Reference,
        options: &ReadOptions,
    ) -> Result<ManifestHead, RegistryError> {
        self.settle_for(access, reference, options).await?;
        let manifest = self.view.look_twice(options, |kv| find_sound(kv, access.repository(), reference)).await?;
        let read::Manifest { digest, media_type, body, .. } = manifest;
        Ok(ManifestHead { digest, media_type, size: body.size() })
    }

    /// Makes the view current enough for a read of a manifest.
    async fn settle_for(
        &self,
        access: &Access<Pull>,
        reference: &Reference,
        options: &ReadOptions,
    ) -> Result<(), RegistryError> {
        match reference {
            Reference::Tag(_) => self.view.settle(Some(access.repository()), options).await,
            Reference::Digest(_) => self.view.settle_by_digest(options).await,
        }
    }

    /// The body of a manifest, wherever it is, as a whole.
    pub(crate) async fn body_of(&self, manifest: &read::Manifest) -> Result<Bytes, RegistryError> {
        match &manifest.body {
            ManifestBody::Inline(bytes) => Ok(bytes.clone()),
            ManifestBody::Stored { size } => {
                self.reader.whole(&manifest.digest, *size, MANIFEST_BYTES_MAX as u64).await
            }
        }
    }

    /// Puts a manifest and moves tags to it, all or nothing. What it refers to must be in the repository, but for its
    /// subject. A body over [`Command::INLINE_BODY_BYTES_MAX`] is stored like a blob of the repository first, and can
    /// be read as one.
    pub async fn put_manifest(
        &self,
        access: &Access<Push>,
        target: PutTarget,
        content_type: Option<&str>,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<PutAnswer, RegistryError> {
        self.view.takes_pushes()?;
        let digest = settle_digest(&target.reference, &body)?;
        let parsed = atoll_oci::parse_manifest(&body, content_type)
            .map_err(|error| RegistryError::ManifestInvalid(error.to_string()))?;
        let tags = tags_of(target.reference, target.extra_tags);
        let (subject, size) = (parsed.subject, body.len());
        let body = self.place_body(access, &digest, body, options).await?;
        let expected = if planted!("precondition_ignored") { Expected::Any } else { target.expected };
        let updates = tags.iter().map(|tag| TagUpdate { tag: tag.clone(), expected }).collect();
        let inline = size <= Command::INLINE_BODY_BYTES_MAX;
        let put = put_command(access.repository().clone(), digest, parsed, body, updates, inline);
        let (revision, done) = step!("manifest.put", self.view.write(access, put, options).await)?;
        let created = matches!(done, Done::ManifestPut { created: true });
        Ok(PutAnswer { digest, subject, tags, revision, created })
    }

    async fn place_body(
        &self,
        access: &Access<Push>,
        digest: &Digest,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<ManifestBody, RegistryError> {
        if body.len() <= Command::INLINE_BODY_BYTES_MAX {
            return Ok(ManifestBody::Inline(body));
        }
        let size = body.len() as u64;
        let body = futures::stream::iter([Ok(body)]);
        self.upload_whole(access, digest, Some(size), body, &options.of_a_step()).await?;
        Ok(ManifestBody::Stored { size })
    }

    /// Deletes a tag alone, or a manifest with all tags that point to it.
    pub async fn delete_manifest(
        &self,
        access: &Access<Delete>,
        reference: &Reference,
        options: &WriteOptions,
    ) -> Result<Revision, RegistryError> {
        let repository = access.repository().clone();
        let command = match reference {
            Reference::Tag(tag) => Command::DeleteTag { repository, tag: tag.clone() },
            Reference::Digest(digest) => Command::DeleteManifest { repository, digest: *digest },
        };
        Ok(step!("manifest.delete", self.view.write(access, command, options).await)?.0)
    }
}

/// The body's digest, by the algorithm of the reference; a digest as the reference must be that one.
fn settle_digest(reference: &Reference, body: &[u8]) -> Result<Digest, RegistryError> {
    if body.len() > MANIFEST_BYTES_MAX {
        let (actual, limit) = (body.len() as u64, MANIFEST_BYTES_MAX as u64);
        return Err(RegistryError::ManifestTooLarge { actual, limit });
    }
    match reference {
        Reference::Tag(_) => Ok(Algorithm::Sha256.digest(body)),
        Reference::Digest(expected) => match expected.algorithm().digest(body) {
            actual if actual == *expected => Ok(actual),
            actual => Err(RegistryError::DigestMismatch { expected: *expected, actual }),
        },
    }
}

/// Every tag once, in the order of the request.
fn tags_of(reference: Reference, extra: Vec<Tag>) -> Vec<Tag> {
    let first = match reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(_) => None,
    };
    let mut tags = Vec::new();
    for tag in first.into_iter().chain(extra) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

fn put_command(
    repository: RepositoryName,
    digest: Digest,
    parsed: ParsedManifest,
    body: ManifestBody,
    tags: Vec<TagUpdate>,
    inline: bool,
) -> Command {
    let references = parsed.references.iter().map(|child| match child.kind {
        ReferenceKind::Blob => ManifestReference::Blob(child.digest, child.size),
        ReferenceKind::Manifest => ManifestReference::Manifest(child.digest),
    });
    Command::PutManifest(Box::new(PutManifest {
        repository,
        digest,
        references: references.filter(|_| !planted!("references_unchecked")).collect(),
        media_type: parsed.media_type,
        body,
        subject: parsed.subject,
        artifact_type: parsed.artifact_type,
        annotations: (inline && parsed.subject.is_some()).then_some(parsed.annotations),
        tags,
    }))
}

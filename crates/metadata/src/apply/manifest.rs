//! Putting manifests.
//!
//! A digest names bytes, so a manifest that is put again is the one that is there: nothing of it changes but its
//! revision, and its tags move. Put again under another media type it is refused: the last one put deciding would let
//! the same bytes be read as an image by one client and as an index by the next. Tools that copy put what they got.

use std::collections::BTreeSet;

use atoll_types::{Digest, RepositoryName};

use super::placement::{self, Blob};
use super::{Run, Step, bounded, link, retry, tag};
use crate::keys::Nothing;
use crate::keys::link::{LinkKey, LinkUse};
use crate::keys::manifest::{ManifestKey, ManifestRecord};
use crate::keys::references::{ReferencesKey, ReferencesRecord};
use crate::keys::referred_by::{As, ReferredByKey};
use crate::keys::referrer::{ReferrerKey, ReferrerRecord};
use crate::policy::Action;
use crate::wire::{AnnotationsMessage, ReferenceMessage};
use crate::{Command, Done, Expected, KvError, ManifestBody, ManifestReference, PutManifest, Rejection, TooLarge};

/// Missing digests that a refusal names.
const MISSING_NAMED_MAX: usize = 8;

/// PutManifest.
pub(super) fn put_manifest(step: &mut Step<'_>, put: &PutManifest) -> Run<Done> {
    check_bounds(put)?;
    check_blobs(step, put)?;
    check_children(step, put)?;
    check_tags(step, put)?;
    let key = ManifestKey { repository: put.repository.clone(), digest: put.digest };
    let found = step.get(&key)?;
    check_media_type(put, found.as_ref())?;

    link::ensure_repository(step, &put.repository)?;
    let created = found.is_none();
    match found {
        Some(record) => step.put(&key, &ManifestRecord { revision: step.revision.0, ..record }),
        None => create(step, &key, put)?,
    }
    for update in &put.tags {
        tag::set(step, &put.repository, &update.tag, &put.digest)?;
    }
    Ok(Done::ManifestPut { created })
}

fn check_bounds(put: &PutManifest) -> Run<()> {
    bounded(&put.references, Command::REFERENCES_MAX)?;
    bounded(&put.tags, Command::TAGS_MAX)?;
    let (bytes, limit) = (put.body.size(), Command::INLINE_BODY_BYTES_MAX as u64);
    match &put.body {
        ManifestBody::Inline(_) if bytes > limit => {
            Err(Rejection::TooLarge(TooLarge::InlineManifest { bytes, limit }).into())
        }
        _ => Ok(()),
    }
}

/// The blobs that a put needs: those that it refers to, and its own body if that is stored.
fn blobs(put: &PutManifest) -> impl Iterator<Item = (Digest, u64)> {
    let body = match put.body {
        ManifestBody::Inline(_) => None,
        ManifestBody::Stored { size } => Some((put.digest, size)),
    };
    let referred = put.references.iter().filter_map(|reference| match reference {
        ManifestReference::Blob(digest, size) => Some((*digest, *size)),
        ManifestReference::Manifest(_) => None,
    });
    body.into_iter().chain(referred)
}

/// Every blob is linked here, held somewhere, and as long as its descriptor says.
fn check_blobs(step: &Step<'_>, put: &PutManifest) -> Run<()> {
    let (mut missing, mut mismatch) = (Vec::new(), None);
    for (digest, stated) in blobs(put) {
        match linked_size(step, &put.repository, &digest)? {
            None => missing.push(digest),
            Some(actual) if actual != stated => {
                mismatch = mismatch.or(Some(Rejection::SizeMismatch { digest, stated, actual }));
            }
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        missing.truncate(MISSING_NAMED_MAX);
        return Err(Rejection::BlobsMissing(missing).into());
    }
    mismatch.map_or(Ok(()), |rejection| Err(rejection.into()))
}

/// The size of a blob that the repository links. One that every region lost, or whose last copy is suspect, is as good
/// as missing: no pull would get it, and its upload heals it.
fn linked_size(step: &Step<'_>, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, KvError> {
    if !step.has(&LinkKey { repository: repository.clone(), digest: *digest })? {
        return Ok(None);
    }
    let Some(blob) = Blob::load(step, digest)? else { return Ok(None) };
    Ok(placement::is_sound(step.kv, &blob.record)?.then_some(blob.record.size))
}

fn check_children(step: &Step<'_>, put: &PutManifest) -> Run<()> {
    let mut missing = Vec::new();
    for reference in &put.references {
        if let ManifestReference::Manifest(digest) = reference
            && !step.has(&ManifestKey { repository: put.repository.clone(), digest: *digest })?
        {
            missing.push(*digest);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.truncate(MISSING_NAMED_MAX);
    Err(Rejection::ManifestsMissing(missing).into())
}

fn check_tags(step: &Step<'_>, put: &PutManifest) -> Run<()> {
    for update in &put.tags {
        let found = tag::visible(step.kv, &put.repository, &update.tag)?.map(|(digest, _)| digest);
        let met = match update.expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Digest(digest) => found == Some(digest),
        };
        if !met {
            return Err(Rejection::TagConflict { tag: update.tag.clone(), found }.into());
        }
        step.allow(&put.repository, &Action::MoveTag { tag: &update.tag, from: found, to: put.digest })?;
    }
    Ok(())
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn check_media_type(put: &PutManifest, found: Option<&ManifestRecord>) -> Run<()> {
    match found.filter(|record| essence(&record.media_type) != essence(&put.media_type)) {
        Some(record) => {
            Err(Rejection::MediaTypeConflict { digest: put.digest, found: record.media_type.clone() }.into())
        }
        None => Ok(()),
    }
}

fn create(step: &mut Step<'_>, key: &ManifestKey, put: &PutManifest) -> Result<(), KvError> {
    let (inline, stored_bytes) = match &put.body {
        ManifestBody::Inline(body) => (Some(body.clone()), 0),
        ManifestBody::Stored { size } => (None, *size),
    };
    let record = ManifestRecord {
        revision: step.revision.0,
        media_type: put.media_type.clone(),
        inline,
        stored_bytes,
        subject: put.subject.map(|subject| subject.to_bytes()).unwrap_or_default(),
        artifact_type: put.artifact_type.clone(),
        created_ms: step.time_ms,
    };
    retry::unbury(step, key)?;
    step.put(key, &record);
    let references = ReferencesRecord { references: put.references.iter().map(ReferenceMessage::of).collect() };
    refer(step, key, &targets(&put.references, &record, &put.digest))?;
    step.put(&ReferencesKey { repository: key.repository.clone(), digest: key.digest }, &references);
    add_referrer(step, put);
    link::count(step, &put.repository, |counters| {
        counters.manifests += 1;
        counters.logical_bytes += inline_bytes(&record);
    })
}

/// A stored body is counted with its link.
pub(super) fn inline_bytes(record: &ManifestRecord) -> u64 {
    record.inline.as_ref().map_or(0, |body| body.len() as u64)
}

/// What a manifest refers to, each once.
pub(super) fn targets(
    references: &[ManifestReference],
    record: &ManifestRecord,
    digest: &Digest,
) -> BTreeSet<(bool, Digest)> {
    let own = record.inline.is_none().then_some((true, *digest));
    let others = references.iter().map(|r| (matches!(r, ManifestReference::Blob(..)), *r.digest()));
    own.into_iter().chain(others).collect()
}

/// The reverse reference of a target.
pub(super) fn reverse(key: &ManifestKey, (is_blob, target): (bool, Digest)) -> ReferredByKey {
    let kind = if is_blob { As::Blob } else { As::Child };
    ReferredByKey { repository: key.repository.clone(), target, kind, referrer: key.digest }
}

fn refer(step: &mut Step<'_>, key: &ManifestKey, targets: &BTreeSet<(bool, Digest)>) -> Result<(), KvError> {
    for target in targets {
        step.put(&reverse(key, *target), &Nothing {});
        if target.0 {
            use_link(step, &LinkKey { repository: key.repository.clone(), digest: target.1 })?;
        }
    }
    Ok(())
}

/// Marks a link as used; a condemned one is live again.
fn use_link(step: &mut Step<'_>, key: &LinkKey) -> Result<(), KvError> {
    let Some(found) = step.get(key)? else { return Ok(()) };
    if found.used()? == LinkUse::Used {
        return Ok(());
    }
    link::set_use(step, key, Some(&found), LinkUse::Used)
}

fn add_referrer(step: &mut Step<'_>, put: &PutManifest) {
    let Some(subject) = put.subject else { return };
    let record = ReferrerRecord {
        media_type: put.media_type.clone(),
        size: put.body.size(),
        artifact_type: put.artifact_type.clone(),
        annotations: put.annotations.as_deref().map(AnnotationsMessage::of),
    };
    step.put(&ReferrerKey { repository: put.repository.clone(), subject, digest: put.digest }, &record);
}

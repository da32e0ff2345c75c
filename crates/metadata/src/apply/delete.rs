//! Deleting manifests, tags and blobs.

use atoll_types::{Digest, RepositoryName, Tag};

use super::{Run, Step, job, link, manifest, retry, tag};
use crate::keys::digest_of;
use crate::keys::link::{LinkKey, LinkUse};
use crate::keys::manifest::{ManifestKey, ManifestRecord};
use crate::keys::manifest_tag::ManifestTagKey;
use crate::keys::references::ReferencesKey;
use crate::keys::referred_by::{As, ReferredByKey};
use crate::keys::referrer::ReferrerKey;
use crate::keys::removal::RemovalKey;
use crate::keys::repository::RepositoryKey;
use crate::keys::tag::TagKey;
use crate::policy::Action;
use crate::wire::ReferenceMessage;
use crate::{Done, KvError, Rejection};

/// Tags removed together with their manifest; with more, a job goes on. Tiny in this crate's own tests, so that their
/// small states have jobs of several steps.
pub(super) const TAGS_REMOVED_MAX: usize = if cfg!(test) { 2 } else { 512 };

fn known_repository(step: &Step<'_>, repository: &RepositoryName) -> Run<()> {
    if step.has(&RepositoryKey { repository: repository.clone() })? {
        return Ok(());
    }
    Err(Rejection::RepositoryUnknown(repository.clone()).into())
}

/// Refuses when a manifest of the repository refers to a digest.
fn unreferenced(step: &Step<'_>, repository: &RepositoryName, digest: &Digest, kind: As) -> Run<()> {
    let prefix = ReferredByKey::of_target(repository, digest, kind);
    match step.page::<ReferredByKey>(&prefix, &prefix, 1)?.first() {
        Some((by, _)) => Err(Rejection::Referenced { digest: *digest, by: by.referrer }.into()),
        None => Ok(()),
    }
}

/// DeleteTag.
pub(super) fn delete_tag(step: &mut Step<'_>, repository: &RepositoryName, name: &Tag) -> Run<Done> {
    known_repository(step, repository)?;
    let key = TagKey { repository: repository.clone(), tag: name.clone() };
    let record = step.get(&key)?.ok_or_else(|| Rejection::TagUnknown(name.clone()))?;
    if tag::hidden_by(step.kv, repository, &record)?.is_some() {
        return Err(Rejection::TagUnknown(name.clone()).into());
    }
    step.allow(repository, &Action::DeleteTag { tag: name, from: digest_of(&record.digest)? })?;
    tag::remove(step, key, &record)?;
    Ok(Done::Deleted { continues: false })
}

/// DeleteBlob: the link goes at once, without a grace period, since someone asked for just that.
pub(super) fn delete_blob(step: &mut Step<'_>, repository: &RepositoryName, digest: &Digest) -> Run<Done> {
    known_repository(step, repository)?;
    let key = LinkKey { repository: repository.clone(), digest: *digest };
    let found = step.get(&key)?.ok_or(Rejection::BlobUnknown(*digest))?;
    unreferenced(step, repository, digest, As::Blob)?;
    step.allow(repository, &Action::DeleteBlob { digest: *digest })?;
    link::unlink(step, &key, &found)?;
    Ok(Done::Deleted { continues: false })
}

/// DeleteManifest.
pub(super) fn delete_manifest(step: &mut Step<'_>, repository: &RepositoryName, digest: &Digest) -> Run<Done> {
    known_repository(step, repository)?;
    let key = ManifestKey { repository: repository.clone(), digest: *digest };
    let record = step.get(&key)?.ok_or(Rejection::ManifestUnknown(*digest))?;
    unreferenced(step, repository, digest, As::Child)?;
    step.allow(repository, &Action::DeleteManifest { digest: *digest })?;

    let continues = remove_tags(step, &key)?;
    remove_references(step, &key, &record)?;
    if !record.subject.is_empty() {
        let subject = digest_of(&record.subject)?;
        step.delete(&ReferrerKey { repository: repository.clone(), subject, digest: *digest });
    }
    retry::bury(step, &key);
    link::count(step, repository, |counters| {
        counters.manifests -= 1;
        counters.logical_bytes -= manifest::inline_bytes(&record);
    })?;
    Ok(Done::Deleted { continues })
}

/// Removes the tags of a manifest, or hides them and leaves the rest to a job; true when it does that.
fn remove_tags(step: &mut Step<'_>, key: &ManifestKey) -> Result<bool, KvError> {
    let prefix = ManifestTagKey::of_manifest(&key.repository, &key.digest);
    let tags = step.page::<ManifestTagKey>(&prefix, &prefix, TAGS_REMOVED_MAX + 1)?;
    let removal = RemovalKey { repository: key.repository.clone(), digest: key.digest };
    if tags.len() > TAGS_REMOVED_MAX || step.has(&removal)? {
        job::start_removal(step, &removal)?;
        return Ok(true);
    }
    for (of, _) in tags {
        let key = TagKey { repository: of.repository, tag: of.tag };
        if let Some(record) = step.get(&key)? {
            tag::remove(step, key, &record)?;
        }
    }
    Ok(false)
}

/// Takes back all references of a manifest, and condemns the links that nothing else uses.
fn remove_references(step: &mut Step<'_>, key: &ManifestKey, record: &ManifestRecord) -> Result<(), KvError> {
    let forward = ReferencesKey { repository: key.repository.clone(), digest: key.digest };
    let references = step.get_or_default(&forward)?.references.into_iter().map(ReferenceMessage::checked);
    let references = references.collect::<Result<Vec<_>, _>>().map_err(|error| KvError(error.to_string()))?;
    for target in manifest::targets(&references, record, &key.digest) {
        step.delete(&manifest::reverse(key, target));
        if target.0 {
            condemn_if_unused(step, &LinkKey { repository: key.repository.clone(), digest: target.1 })?;
        }
    }
    step.delete(&forward);
    Ok(())
}

fn condemn_if_unused(step: &mut Step<'_>, key: &LinkKey) -> Result<(), KvError> {
    let prefix = ReferredByKey::of_target(&key.repository, &key.digest, As::Blob);
    if !step.page::<ReferredByKey>(&prefix, &prefix, 1)?.is_empty() {
        return Ok(());
    }
    let Some(found) = step.get(key)? else { return Ok(()) };
    link::set_use(step, key, Some(&found), LinkUse::Condemned)
}

//! Tags: where they point, their history, and those that are hidden.
//!
//! A manifest that is deleted with more tags than a command may touch leaves a removal behind: tags that point to it
//! since before the deletion are hidden from every read and every condition, until a job has removed them. A tag that
//! is put on the same manifest later is not hidden.

use atoll_types::{Digest, RepositoryName, Revision, Tag};

use super::{Step, retry};
use crate::keys::manifest_tag::ManifestTagKey;
use crate::keys::removal::RemovalKey;
use crate::keys::tag::{TagKey, TagRecord};
use crate::keys::tag_history::{TagHistoryKey, TagHistoryRecord};
use crate::keys::{self, Nothing, digest_of};
use crate::{KvError, KvRead};

/// Entries kept of a tag's history.
pub(crate) const HISTORY_MAX: usize = 16;

/// The revision of the removal that hides a tag.
pub(crate) fn hidden_by(kv: &dyn KvRead, repository: &RepositoryName, tag: &TagRecord) -> Result<Option<u64>, KvError> {
    let key = RemovalKey { repository: repository.clone(), digest: digest_of(&tag.digest)? };
    Ok(keys::get(kv, &key)?.map(|removal| removal.revision).filter(|revision| tag.revision <= *revision))
}

/// A tag that is there and not hidden.
pub(crate) fn visible(
    kv: &dyn KvRead,
    repository: &RepositoryName,
    tag: &Tag,
) -> Result<Option<(Digest, Revision)>, KvError> {
    let Some(record) = keys::get(kv, &TagKey { repository: repository.clone(), tag: tag.clone() })? else {
        return Ok(None);
    };
    if hidden_by(kv, repository, &record)?.is_some() {
        return Ok(None);
    }
    Ok(Some((digest_of(&record.digest)?, Revision(record.revision))))
}

/// The change that last moved, hid or deleted a tag; zero when none did for long.
pub(super) fn changed_revision(step: &Step<'_>, repository: &RepositoryName, tag: &Tag) -> Result<u64, KvError> {
    let key = TagKey { repository: repository.clone(), tag: tag.clone() };
    match step.get(&key)? {
        Some(record) => Ok(hidden_by(step.kv, repository, &record)?.unwrap_or(record.revision)),
        None => Ok(retry::deleted_revision(step, &key)?.unwrap_or(0)),
    }
}

/// Points a tag to a manifest.
pub(super) fn set(step: &mut Step<'_>, repository: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<(), KvError> {
    let key = TagKey { repository: repository.clone(), tag: tag.clone() };
    match step.get(&key)? {
        Some(old) => step.delete(&by_manifest(&key, digest_of(&old.digest)?)),
        None => retry::unbury(step, &key)?,
    }
    let record = TagRecord { revision: step.revision.0, digest: digest.to_bytes(), time_ms: step.time_ms };
    step.put(&by_manifest(&key, *digest), &Nothing {});
    step.put(&key, &record);
    remember(step, key, digest.to_bytes())
}

/// Deletes a tag that is there.
pub(super) fn remove(step: &mut Step<'_>, key: TagKey, record: &TagRecord) -> Result<(), KvError> {
    step.delete(&by_manifest(&key, digest_of(&record.digest)?));
    retry::bury(step, &key);
    remember(step, key, Vec::new())
}

fn by_manifest(key: &TagKey, digest: Digest) -> ManifestTagKey {
    ManifestTagKey { repository: key.repository.clone(), digest, tag: key.tag.clone() }
}

/// Adds to a tag's history and forgets its oldest entry.
fn remember(step: &mut Step<'_>, key: TagKey, digest: Vec<u8>) -> Result<(), KvError> {
    let history = TagHistoryKey::of_tag(&key.repository, &key.tag);
    let kept = step.page::<TagHistoryKey>(&history, &history, HISTORY_MAX)?;
    if let Some((oldest, _)) = kept.first().filter(|_| kept.len() == HISTORY_MAX) {
        step.delete(oldest);
    }
    let record = TagHistoryRecord { digest, time_ms: step.time_ms, actor: step.actor.to_owned() };
    step.put(&TagHistoryKey { repository: key.repository, tag: key.tag, revision: step.revision }, &record);
    Ok(())
}

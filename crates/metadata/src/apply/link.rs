//! Links: a repository's access to a blob.

use atoll_types::{Digest, RepositoryName};

use super::placement::{self, Blob};
use super::{Run, Step, retry};
use crate::keys::idle_link::{IdleLinkKey, IdleLinkRecord};
use crate::keys::link::{LinkKey, LinkRecord, LinkUse};
use crate::keys::linking::LinkingKey;
use crate::keys::namespace::{NamespaceKey, NamespaceRecord};
use crate::keys::repository::{RepositoryKey, RepositoryRecord};
use crate::keys::{Nothing, region::RegionRecord};
use crate::{BlobSource, Done, KvError, Rejection};
use atoll_types::Revision;

/// LinkBlob.
pub(super) fn link_blob(
    step: &mut Step<'_>,
    repository: &RepositoryName,
    digest: &Digest,
    size: u64,
    source: &BlobSource,
) -> Run<Done> {
    let found = Blob::load(step, digest)?;
    if let Some(blob) = found.as_ref().filter(|blob| blob.record.size != size) {
        return Err(Rejection::SizeMismatch { digest: *digest, stated: size, actual: blob.record.size }.into());
    }
    let uploaded = match source {
        BlobSource::Uploaded { region, store, object } => {
            let of = placement::region_with_store(step, region, store)?;
            check_epoch(&of, object)?;
            Some((region, of.generation, object))
        }
        BlobSource::Mounted { from } => {
            check_mount(step, from, digest, found.as_ref())?;
            None
        }
    };
    ensure_repository(step, repository)?;
    let mut blob = match found {
        Some(blob) => blob,
        None => Blob::create(step, digest, size)?,
    };
    if let Some((region, generation, object)) = uploaded {
        blob.hold(step, region, generation, object)?;
    }
    link(step, repository, &mut blob)?;
    blob.save(step)?;
    Ok(Done::Linked)
}

fn check_epoch(region: &RegionRecord, object: &atoll_types::ObjectName) -> Run<()> {
    if placement::is_stale(region, object) { Err(Rejection::StaleEpoch.into()) } else { Ok(()) }
}

/// A source links the blob, live or condemned, and some region holds it: one that is lost, or whose last copy is
/// suspect, has to be uploaded again.
fn check_mount(step: &Step<'_>, from: &RepositoryName, digest: &Digest, blob: Option<&Blob>) -> Run<()> {
    let linked = step.has(&LinkKey { repository: from.clone(), digest: *digest })?;
    match blob {
        Some(blob) if linked && placement::is_sound(step.kv, &blob.record)? => Ok(()),
        _ => Err(Rejection::BlobUnknown(*digest).into()),
    }
}

/// Creates a repository where it does not exist.
pub(super) fn ensure_repository(step: &mut Step<'_>, name: &RepositoryName) -> Result<(), KvError> {
    let key = RepositoryKey { repository: name.clone() };
    if step.has(&key)? {
        return Ok(());
    }
    let record = RepositoryRecord { revision: step.revision.0, created_ms: step.time_ms, ..Default::default() };
    step.put(&key, &record);
    count(step, name, |counters| counters.repositories += 1)
}

/// Changes the counters of a repository's namespace.
pub(super) fn count(
    step: &mut Step<'_>,
    repository: &RepositoryName,
    change: impl FnOnce(&mut NamespaceRecord),
) -> Result<(), KvError> {
    step.update(&NamespaceKey { name: repository.namespace().to_owned() }, change)
}

/// Links a blob, or renews its link: a condemned one is live again.
fn link(step: &mut Step<'_>, repository: &RepositoryName, blob: &mut Blob) -> Result<(), KvError> {
    let key = LinkKey { repository: repository.clone(), digest: blob.digest };
    let found = step.get(&key)?;
    if found.is_none() {
        retry::unbury(step, &key)?;
        step.put(&LinkingKey { digest: blob.digest, repository: repository.clone() }, &Nothing {});
        blob.record.links += 1;
        let size = blob.record.size;
        count(step, repository, |counters| {
            counters.links += 1;
            counters.logical_bytes += size;
        })?;
    }
    let used = found.as_ref().map(LinkRecord::used).transpose()? == Some(LinkUse::Used);
    set_use(step, &key, found.as_ref(), if used { LinkUse::Used } else { LinkUse::Unused })
}

/// Writes a link and its place among those that nothing uses.
pub(super) fn set_use(
    step: &mut Step<'_>,
    key: &LinkKey,
    found: Option<&LinkRecord>,
    to: LinkUse,
) -> Result<(), KvError> {
    if let Some(idle) = found.map(|link| idle_key(key, link)).transpose()?.flatten() {
        step.delete(&idle);
    }
    let link = LinkRecord { revision: step.revision.0, since_ms: step.time_ms, state: to.code() };
    if let Some(idle) = idle_key(key, &link)? {
        step.put(&idle, &IdleLinkRecord { since_ms: step.time_ms });
    }
    step.put(key, &link);
    Ok(())
}

/// Where a link stands among those that nothing uses.
fn idle_key(key: &LinkKey, link: &LinkRecord) -> Result<Option<IdleLinkKey>, KvError> {
    let condemned = match link.used()? {
        LinkUse::Used => return Ok(None),
        LinkUse::Unused => false,
        LinkUse::Condemned => true,
    };
    let (repository, digest) = (key.repository.clone(), key.digest);
    Ok(Some(IdleLinkKey { condemned, revision: Revision(link.revision), repository, digest }))
}

/// Removes a link. When it was the last one, the copies become garbage and nobody wants the blob any more.
pub(super) fn unlink(step: &mut Step<'_>, key: &LinkKey, found: &LinkRecord) -> Result<(), KvError> {
    let blob = Blob::load(step, &key.digest)?;
    let mut blob = blob.ok_or_else(|| KvError(format!("blob {} is linked and has no record", key.digest)))?;
    if let Some(idle) = idle_key(key, found)? {
        step.delete(&idle);
    }
    retry::bury(step, key);
    step.delete(&LinkingKey { digest: key.digest, repository: key.repository.clone() });
    let size = blob.record.size;
    count(step, &key.repository, |counters| {
        counters.links -= 1;
        counters.logical_bytes -= size;
    })?;
    blob.record.links -= 1;
    blob.save(step)
}

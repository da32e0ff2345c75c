//! Whether a request may still be applied, so that no retry of an old delete or put undoes a newer acknowledged push.
//!
//! An outcome is kept for 65,536 revisions, and a request is applied only while `revision − seen` is at most that. Its
//! first attempt, if it was applied, was so after `seen`: so its outcome is found, or the request is too old. What
//! remains is a retry whose earlier attempts were never applied. Others may have acted meanwhile and been
//! acknowledged, so it is refused when what it would write or delete changed after `seen`:
//!
//! - a put of a manifest: the manifest was deleted, or one of its tags moved or was deleted. That the very same
//!   manifest was put meanwhile is no change, for putting it again changes nothing.
//! - a link of a blob: the link was deleted. That it was made meanwhile is no change.
//! - a delete: what it would delete was written or deleted. Putting the same manifest or linking the same blob again
//!   counts as a write, which is why both raise the record's revision.
//! - a node, a pause: set by another request.
//!
//! Deletions leave a tombstone for as long as such a request may come. What follows from these (referrers, reverse
//! references, links revived or condemned, counters, the queue) is a function of them and needs no check of its own.
//! All other commands name exactly what they replace (a store, an object, a condemning revision) or depend on the
//! present alone (leases, sweeps, jobs), so that an old one does nothing.

use super::request::RETRY_REVISIONS;
use super::{Run, Step, tag};
use crate::keys::Key;
use crate::keys::link::LinkKey;
use crate::keys::manifest::ManifestKey;
use crate::keys::node::NodeKey;
use crate::keys::region::RegionKey;
use crate::keys::tombstone::{TombstoneKey, TombstoneRecord};
use crate::keys::tombstone_queue::TombstoneQueueKey;
use crate::{Command, Entry, KvError, Rejection};
use atoll_types::Revision;

/// Refuses a request that comes too late.
pub(super) fn admit(step: &Step<'_>, entry: &Entry) -> Run<()> {
    let (now, seen) = (step.revision.0, entry.envelope.seen.0);
    // A revision that does not exist yet was seen by nobody: it would switch the checks off.
    let too_old = seen >= now || now - seen > RETRY_REVISIONS;
    if too_old || (entry.envelope.attempt > 0 && changed_after(step, &entry.command, seen)?) {
        return Err(Rejection::Expired.into());
    }
    Ok(())
}

fn changed_after(step: &Step<'_>, command: &Command, seen: u64) -> Result<bool, KvError> {
    Ok(match command {
        Command::LinkBlob { repository, digest, .. } => {
            deleted_after(step, &LinkKey { repository: repository.clone(), digest: *digest }, seen)?
        }
        Command::PutManifest(put) => {
            let key = ManifestKey { repository: put.repository.clone(), digest: put.digest };
            let mut changed = deleted_after(step, &key, seen)?;
            for update in &put.tags {
                changed |= tag::changed_revision(step, &put.repository, &update.tag)? > seen;
            }
            changed
        }
        Command::DeleteManifest { repository, digest } => {
            let key = ManifestKey { repository: repository.clone(), digest: *digest };
            deleted_after(step, &key, seen)? || step.get(&key)?.is_some_and(|m| m.revision > seen)
        }
        Command::DeleteTag { repository, tag } => tag::changed_revision(step, repository, tag)? > seen,
        Command::DeleteBlob { repository, digest } => {
            let key = LinkKey { repository: repository.clone(), digest: *digest };
            deleted_after(step, &key, seen)? || step.get(&key)?.is_some_and(|l| l.revision > seen)
        }
        Command::RegisterNode(node) => step.get(&NodeKey { node: node.node })?.is_some_and(|n| n.revision > seen),
        Command::RemoveNode { node } => step.get(&NodeKey { node: *node })?.is_some_and(|n| n.revision > seen),
        Command::SetReplicationPaused { region, .. } => {
            step.get(&RegionKey { region: region.clone() })?.is_some_and(|r| r.paused_revision > seen)
        }
        _ => false,
    })
}

fn deleted_after<K: Key>(step: &Step<'_>, key: &K, seen: u64) -> Result<bool, KvError> {
    Ok(deleted_revision(step, key)?.is_some_and(|revision| revision > seen))
}

/// When a key was deleted, if that is not long ago.
pub(super) fn deleted_revision<K: Key>(step: &Step<'_>, key: &K) -> Result<Option<u64>, KvError> {
    Ok(step.get(&TombstoneKey { of: key.encode() })?.map(|tombstone| tombstone.revision))
}

/// Deletes a key and leaves a tombstone.
pub(super) fn bury<K: Key>(step: &mut Step<'_>, key: &K) {
    let (of, revision) = (key.encode(), step.revision);
    step.delete(key);
    step.put(&TombstoneQueueKey { revision, of: of.clone() }, &crate::keys::Nothing {});
    step.put(&TombstoneKey { of }, &TombstoneRecord { revision: revision.0 });
}

/// Removes the tombstone of a key that is written again.
pub(super) fn unbury<K: Key>(step: &mut Step<'_>, key: &K) -> Result<(), KvError> {
    let tombstone = TombstoneKey { of: key.encode() };
    if let Some(record) = step.get(&tombstone)? {
        step.delete(&TombstoneQueueKey { revision: Revision(record.revision), of: tombstone.of.clone() });
        step.delete(&tombstone);
    }
    Ok(())
}

//! What is kept of requests: the outcome of each for [`RETRY_REVISIONS`], and tombstones for as long.

use atoll_types::{RequestId, Revision};
use xxhash_rust::xxh3::Xxh3;

use super::Step;
use crate::keys::clock::ClockRecord;
use crate::keys::outcome::{OutcomeKey, OutcomeRecord};
use crate::keys::outcome_of::{OutcomeOfKey, OutcomeOfRecord};
use crate::keys::tag::TagKey;
use crate::keys::tag_history::TagHistoryKey;
use crate::keys::tombstone::TombstoneKey;
use crate::keys::tombstone_queue::TombstoneQueueKey;
use crate::keys::{self, Key};
use crate::{Applied, BlobSource, Command, Entry, KvError, Outcome, Rejection};

/// For how many revisions outcomes and tombstones are kept, and how old a request's `seen` may be.
pub(super) const RETRY_REVISIONS: u64 = 65_536;
/// Outcomes pruned by one apply: more than one, so that a backlog shrinks.
const OUTCOMES_PRUNED: usize = 4;
/// Tombstones pruned by one apply.
const TOMBSTONES_PRUNED: usize = 256;

/// The outcome of a request that was applied before.
pub(super) fn kept(step: &Step<'_>, entry: &Entry) -> Result<Option<Applied>, KvError> {
    let Some(of) = step.get(&OutcomeOfKey { request: entry.envelope.request })? else { return Ok(None) };
    let revision = Revision(of.revision);
    let record = step.get(&OutcomeKey { revision })?;
    let record = record.ok_or_else(|| KvError(format!("the outcome of revision {revision} is missing")))?;
    if record.fingerprint != fingerprint(&entry.command) {
        return Ok(Some(Applied { revision: step.revision, outcome: Outcome::Rejected(Rejection::RequestReused) }));
    }
    let outcome = Outcome::decode(&record.outcome).map_err(|error| KvError(error.to_string()))?;
    Ok(Some(Applied { revision, outcome }))
}

/// Keeps the outcome of a request.
pub(super) fn keep(step: &mut Step<'_>, entry: &Entry, outcome: &Outcome) {
    let (request, revision) = (entry.envelope.request, step.revision);
    let fingerprint = fingerprint(&entry.command);
    let record = OutcomeRecord { request: request.as_bytes().to_vec(), fingerprint, outcome: outcome.encode() };
    step.put(&OutcomeKey { revision }, &record);
    step.put(&OutcomeOfKey { request }, &OutcomeOfRecord { revision: revision.0 });
}

/// What makes two commands the same request. An upload that is sent again has another object, and another version may
/// parse a manifest otherwise: only what the client asked for counts.
fn fingerprint(command: &Command) -> u64 {
    let mut hasher = Xxh3::new();
    match command {
        Command::LinkBlob { repository, digest, size, source } => {
            hasher.update(b"link\0");
            hasher.update(repository.as_str().as_bytes());
            hasher.update(&[0, u8::from(matches!(source, BlobSource::Mounted { .. }))]);
            hasher.update(&digest.to_bytes());
            hasher.update(&size.to_le_bytes());
        }
        Command::PutManifest(put) => {
            hasher.update(b"put\0");
            hasher.update(put.repository.as_str().as_bytes());
            hasher.update(&[0]);
            hasher.update(&put.digest.to_bytes());
            for update in &put.tags {
                hasher.update(update.tag.as_str().as_bytes());
                hasher.update(&[0]);
            }
        }
        other => {
            hasher.update(b"other\0");
            hasher.update(&other.encode());
        }
    }
    hasher.digest()
}

/// Removes what is older than any request that may still be applied: a bounded number of each, from the oldest on.
pub(super) fn prune(step: &mut Step<'_>, clock: &mut ClockRecord) -> Result<(), KvError> {
    let below = step.revision.0.saturating_sub(RETRY_REVISIONS);
    clock.outcomes_below = prune_outcomes(step, clock.outcomes_below, below)?;
    clock.tombstones_below = prune_tombstones(step, clock.tombstones_below, below)?;
    Ok(())
}

fn prune_outcomes(step: &mut Step<'_>, from: u64, below: u64) -> Result<u64, KvError> {
    if from >= below {
        return Ok(from);
    }
    let first = OutcomeKey { revision: Revision(from) }.encode();
    let page = step.page::<OutcomeKey>(&[OutcomeKey::PREFIX], &first, OUTCOMES_PRUNED)?;
    let reached = reached(page.iter().map(|(key, _)| key.revision.0), OUTCOMES_PRUNED, below);
    for (key, record) in page.into_iter().filter(|(key, _)| key.revision.0 < below) {
        let request = RequestId::from_slice(&record.request);
        let request = request.ok_or_else(|| KvError("an outcome names no valid request".into()))?;
        step.delete(&OutcomeOfKey { request });
        step.delete(&key);
    }
    Ok(reached)
}

fn prune_tombstones(step: &mut Step<'_>, from: u64, below: u64) -> Result<u64, KvError> {
    if from >= below {
        return Ok(from);
    }
    let first = TombstoneQueueKey::from_revision(Revision(from));
    let page = step.page::<TombstoneQueueKey>(&TombstoneQueueKey::all(), &first, TOMBSTONES_PRUNED)?;
    let reached = reached(page.iter().map(|(key, _)| key.revision.0), TOMBSTONES_PRUNED, below);
    for (key, _) in page.into_iter().filter(|(key, _)| key.revision.0 < below) {
        forget(step, &key)?;
    }
    Ok(reached)
}

/// How far a page got: to its last revision, of which more may follow, or to the end.
fn reached(revisions: impl ExactSizeIterator<Item = u64>, limit: usize, below: u64) -> u64 {
    let full = revisions.len() == limit;
    revisions.last().filter(|_| full).map_or(below, |last| last.min(below))
}

/// Removes a tombstone, and the history of a tag that has been gone for as long.
fn forget(step: &mut Step<'_>, key: &TombstoneQueueKey) -> Result<(), KvError> {
    step.delete(&TombstoneKey { of: key.of.clone() });
    step.delete(key);
    if key.of.first() == Some(&TagKey::PREFIX) {
        let tag = TagKey::decode(&key.of)?;
        let history = TagHistoryKey::of_tag(&tag.repository, &tag.tag);
        for (moved, _) in keys::page::<TagHistoryKey>(step.kv, &history, &history, super::tag::HISTORY_MAX + 1)? {
            step.delete(&moved);
        }
    }
    Ok(())
}

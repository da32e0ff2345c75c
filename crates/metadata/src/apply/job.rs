//! Jobs: what is more than one command may touch, done in bounded steps.

use atoll_types::{RegionId, Revision};

use super::delete::TAGS_REMOVED_MAX;
use super::placement::{Blob, Due};
use super::{Run, Step, tag};
use crate::hash::successor;
use crate::keys::blob::BlobKey;
use crate::keys::job::{JobKey, JobRecord};
use crate::keys::manifest_tag::ManifestTagKey;
use crate::keys::region::{RegionKey, RegionRecord};
use crate::keys::removal::{RemovalKey, RemovalRecord};
use crate::keys::repository::RepositoryKey;
use crate::keys::tag::TagKey;
use crate::keys::{Key, digest_of};
use crate::{Done, KvError, Rejection};

/// Blobs that one step of a region's job looks at. Tiny in this crate's own tests, so that their jobs have several steps.
pub(super) const BLOBS_PER_STEP: usize = if cfg!(test) { 2 } else { 256 };

/// Starts the job that puts all of a region's blobs into its queue; it takes the place of one that runs. What that one
/// has not reached is due since it started, so that the age of lag does not fall. The caller writes the region's record.
pub(super) fn start_reconciliation(step: &mut Step<'_>, region: &RegionId, record: &mut RegionRecord) {
    let due = due(record).unwrap_or_else(|| Due::now(step));
    if record.job != 0 {
        step.delete(&JobKey { revision: Revision(record.job) });
    }
    record.job = step.revision.0;
    (record.job_due, record.job_since_ms) = (due.revision.0, due.since_ms);
    let job = JobRecord { region: region.to_string(), created_ms: step.time_ms, ..Default::default() };
    step.put(&JobKey { revision: step.revision }, &job);
}

/// Since when the blobs that a region's job reaches are due; `None` without a job.
fn due(of: &RegionRecord) -> Option<Due> {
    let revision = if of.job_due == 0 { of.job } else { of.job_due };
    (of.job != 0).then_some(Due { revision: Revision(revision), since_ms: of.job_since_ms })
}

/// Hides the tags of a deleted manifest and starts the job that removes them; one that runs starts again.
pub(super) fn start_removal(step: &mut Step<'_>, key: &RemovalKey) -> Result<(), KvError> {
    match step.get(key)? {
        Some(found) => step.delete(&JobKey { revision: Revision(found.job) }),
        None => step.update(&RepositoryKey { repository: key.repository.clone() }, |record| record.removals += 1)?,
    }
    step.put(key, &RemovalRecord { revision: step.revision.0, job: step.revision.0 });
    let (repository, digest) = (key.repository.to_string(), key.digest.to_bytes());
    let job = JobRecord { repository, digest, created_ms: step.time_ms, ..Default::default() };
    step.put(&JobKey { revision: step.revision }, &job);
    Ok(())
}

/// ContinueJob.
pub(super) fn continue_job(step: &mut Step<'_>, job: Revision) -> Run<Done> {
    let key = JobKey { revision: job };
    let mut record = step.get(&key)?.ok_or(Rejection::JobUnknown(job))?;
    let next = if record.region.is_empty() { remove_tags(step, &record)? } else { reconcile(step, &record)? };
    let finished = next.is_none();
    match next {
        Some(cursor) => {
            record.cursor = cursor;
            step.put(&key, &record);
        }
        None => step.delete(&key),
    }
    Ok(Done::Job { finished })
}

/// Looks at the next blobs; returns where to go on.
fn reconcile(step: &mut Step<'_>, job: &JobRecord) -> Result<Option<Vec<u8>>, KvError> {
    let region: RegionId = job.region.parse().map_err(|error| KvError(format!("{error}")))?;
    let key = RegionKey { region: region.clone() };
    let mut of = step.get_or_default(&key)?;
    let page = step.page::<BlobKey>(&[BlobKey::PREFIX], &job.cursor, BLOBS_PER_STEP)?;
    let next = page.last().filter(|_| page.len() == BLOBS_PER_STEP).map(|(last, _)| successor(&last.encode()));
    let due = due(&of).unwrap_or_else(|| Due::now(step));
    for (BlobKey { digest }, record) in page {
        let mut blob = Blob { digest, record };
        if blob.settle(step, &region, of.generation, due)? {
            blob.save(step)?;
        }
    }
    if next.is_none() {
        of.job = 0;
        of.job_since_ms = 0;
        of.job_due = 0;
        step.put(&key, &of);
    }
    Ok(next)
}

/// Removes the next tags of a deleted manifest; returns where to go on.
fn remove_tags(step: &mut Step<'_>, job: &JobRecord) -> Result<Option<Vec<u8>>, KvError> {
    let repository = job.repository.parse().map_err(|error| KvError(format!("{error}")))?;
    let removal = RemovalKey { repository, digest: digest_of(&job.digest)? };
    let prefix = ManifestTagKey::of_manifest(&removal.repository, &removal.digest);
    let page = step.page::<ManifestTagKey>(&prefix, &job.cursor, TAGS_REMOVED_MAX)?;
    let next = page.last().filter(|_| page.len() == TAGS_REMOVED_MAX).map(|(last, _)| successor(&last.encode()));
    for (of, _) in page {
        let key = TagKey { repository: of.repository, tag: of.tag };
        if let Some(record) = step.get(&key)?
            && tag::hidden_by(step.kv, &key.repository, &record)?.is_some()
        {
            tag::remove(step, key, &record)?;
        }
    }
    if next.is_none() {
        step.update(&RepositoryKey { repository: removal.repository.clone() }, |record| record.removals -= 1)?;
        step.delete(&removal);
    }
    Ok(next)
}

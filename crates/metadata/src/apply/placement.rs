//! The wanted rule: a region wants a blob if and only if a repository that links it places it there, and the region has
//! no copy. Every repository is placed in every region so far.
//!
//! For a linked blob, each registered region is in one of three states, and the counters of the region count each:
//!
//! - *held*: its record names an object in the region's present store. One that is suspect is held too, until another
//!   region has a good copy: then it is dropped, and wanted;
//! - *wanted*: it stands in the region's queue;
//! - *beyond*: it has no entry for the region (which was registered later), or one in a store that was replaced. It is
//!   wanted all the same, but a job has still to put it into the queue. Only while a job of the region runs, and only
//!   beyond its cursor. Lag counts these too, so it is never below the truth.
//!
//! The queue is ordered by the change that made an entry due. For what a job puts into it that is the change which
//! started the job, not the job's step: so its head is the oldest, and the age of lag never falls while a job works.
//!
//! A blob that is linked first is put into every queue at once, wherever a job's cursor stands; the job then finds
//! nothing to do for it. A copy recorded beyond the cursor leaves `beyond` by itself.

use atoll_types::{Digest, ObjectName, RegionId, Revision};

use super::{Run, Step};
use crate::keys::blob::{BlobKey, BlobRecord, InRegion};
use crate::keys::garbage::{GarbageKey, GarbageRecord};
use crate::keys::region::{RegionKey, RegionRecord};
use crate::keys::region_counters::{RegionCounters, RegionCountersKey};
use crate::keys::totals::TotalsKey;
use crate::keys::wanted::{WantedKey, WantedRecord};
use crate::keys::{self, Key};
use crate::wire::Object;
use crate::{KvError, KvRead, Rejection};

/// Most regions of a cluster: what a first link of a blob writes to.
pub(super) const REGIONS_MAX: usize = 64;

/// A blob in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The region has this object.
    Held(ObjectName),
    /// It stands in the queue since this revision.
    Wanted(Revision),
    /// A job has still to reach it.
    Beyond,
}

/// Since when a region lacks a blob that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) revision: Revision,
    /// The leader time of that change, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
}

impl Due {
    /// Since the change that is being applied.
    pub(super) const fn now(step: &Step<'_>) -> Self {
        Self { revision: step.revision, since_ms: step.time_ms }
    }
}

/// The state of a blob in a region whose store has this generation.
pub(super) fn place(blob: &BlobRecord, region: &RegionId, generation: u64) -> Result<Place, KvError> {
    let Some(entry) = blob.regions.iter().find(|entry| entry.region == region.as_str()) else {
        return Ok(Place::Beyond);
    };
    Ok(match &entry.object {
        Some(object) if entry.generation == generation => Place::Held(object_of(object)?),
        Some(_) => Place::Beyond,
        None => Place::Wanted(Revision(entry.wanted)),
    })
}

fn object_of(object: &Object) -> Result<ObjectName, KvError> {
    Object::name(Some(object)).map_err(|error| KvError(error.to_string()))
}

/// Every region, by name.
pub(crate) fn regions(kv: &dyn KvRead) -> Result<Vec<(RegionId, RegionRecord)>, KvError> {
    let all = keys::page::<RegionKey>(kv, &[RegionKey::PREFIX], &[], REGIONS_MAX)?;
    Ok(all.into_iter().map(|(key, record)| (key.region, record)).collect())
}

/// A region's record, or a refusal.
pub(super) fn known_region(step: &Step<'_>, region: &RegionId) -> Run<RegionRecord> {
    let record = step.get(&RegionKey { region: region.clone() })?;
    record.ok_or_else(|| Rejection::RegionUnknown(region.to_string()).into())
}

/// The region's record, provided that it has this store.
pub(super) fn region_with_store(step: &Step<'_>, region: &RegionId, store: &atoll_types::StoreId) -> Run<RegionRecord> {
    let record = known_region(step, region)?;
    if record.store == store.as_bytes() { Ok(record) } else { Err(Rejection::StoreMismatch(region.to_string()).into()) }
}

/// True for a name that a sweep may already have taken.
pub(super) const fn is_stale(region: &RegionRecord, object: &ObjectName) -> bool {
    object.epoch() < region.sweep_epoch.saturating_sub(1)
}

/// A copy in a store that was not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) region: RegionId,
    /// The generation of the region's store.
    pub(crate) generation: u64,
    pub(crate) object: ObjectName,
    /// It was found missing or corrupt when it was the last one.
    pub(crate) suspect: bool,
}

/// The copies of a blob in stores that were not replaced.
pub(crate) fn copies(kv: &dyn KvRead, blob: &BlobRecord) -> Result<Vec<Copy>, KvError> {
    let mut copies = Vec::new();
    for entry in blob.regions.iter().filter(|entry| entry.object.is_some()) {
        let region: RegionId = entry.region.parse().map_err(|error| KvError(format!("{error}")))?;
        let generation = keys::get_or_default(kv, &RegionKey { region: region.clone() })?.generation;
        if let Place::Held(object) = place(blob, &region, generation)? {
            copies.push(Copy { region, generation, object, suspect: entry.suspect });
        }
    }
    Ok(copies)
}

/// Whether some region has a copy that is not suspect. Without one, a blob has to be uploaded again.
pub(super) fn is_sound(kv: &dyn KvRead, blob: &BlobRecord) -> Result<bool, KvError> {
    Ok(copies(kv, blob)?.iter().any(|copy| !copy.suspect))
}

/// A blob whose record is being changed.
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) record: BlobRecord,
}

impl Blob {
    /// The blob, if a repository links it.
    pub(super) fn load(step: &Step<'_>, digest: &Digest) -> Result<Option<Self>, KvError> {
        Ok(step.get(&BlobKey { digest: *digest })?.map(|record| Self { digest: *digest, record }))
    }

    /// A blob that is about to be linked first: wanted everywhere.
    pub(super) fn create(step: &mut Step<'_>, digest: &Digest, size: u64) -> Result<Self, KvError> {
        let mut blob = Self { digest: *digest, record: BlobRecord { size, ..Default::default() } };
        step.update(&TotalsKey, |totals| {
            totals.blobs += 1;
            totals.bytes += size;
        })?;
        for (region, _) in regions(step.kv)? {
            blob.want(step, &region, Due::now(step))?;
        }
        Ok(blob)
    }

    /// Writes the record, or removes the blob from everywhere when nothing links it any more.
    pub(super) fn save(self, step: &mut Step<'_>) -> Result<(), KvError> {
        if self.record.links > 0 {
            step.put(&BlobKey { digest: self.digest }, &self.record);
            return Ok(());
        }
        self.remove(step)
    }

    fn remove(mut self, step: &mut Step<'_>) -> Result<(), KvError> {
        let size = self.record.size;
        for (region, of) in regions(step.kv)? {
            if let Some(object) = self.leave(step, &region, of.generation)? {
                self.discard(step, &region, &object)?;
            }
        }
        let lost = u64::from(self.record.lost);
        step.update(&TotalsKey, |totals| {
            totals.blobs -= 1;
            totals.bytes -= size;
            totals.lost -= lost;
        })?;
        step.delete(&BlobKey { digest: self.digest });
        Ok(())
    }

    /// Records a copy; one that it replaces becomes garbage, and so do suspect ones of other regions, which want the
    /// blob from now on.
    pub(super) fn hold(
        &mut self,
        step: &mut Step<'_>,
        region: &RegionId,
        generation: u64,
        object: &ObjectName,
    ) -> Result<(), KvError> {
        if place(&self.record, region, generation)? == Place::Held(*object) {
            return Ok(());
        }
        if let Some(old) = self.leave(step, region, generation)? {
            self.discard(step, region, &old)?;
        }
        let object = Object::of(object);
        self.enter(InRegion { region: region.to_string(), object, generation, ..Default::default() });
        self.count(step, region, |counters, size| {
            counters.held += 1;
            counters.held_bytes += size;
        })?;
        if std::mem::take(&mut self.record.lost) {
            step.update(&TotalsKey, |totals| totals.lost -= 1)?;
        }
        self.drop_suspects(step)
    }

    fn drop_suspects(&mut self, step: &mut Step<'_>) -> Result<(), KvError> {
        if !self.record.regions.iter().any(|entry| entry.suspect) {
            return Ok(());
        }
        for copy in copies(step.kv, &self.record)?.into_iter().filter(|copy| copy.suspect) {
            self.drop_copy(step, &copy.region, copy.generation)?;
        }
        Ok(())
    }

    /// A copy is missing or corrupt. It is dropped while another region has a good one; the last one is marked instead,
    /// and false returned.
    pub(super) fn distrust(
        &mut self,
        step: &mut Step<'_>,
        region: &RegionId,
        generation: u64,
    ) -> Result<bool, KvError> {
        let is_good = |copy: &Copy| copy.region != *region && !copy.suspect;
        let dropped = copies(step.kv, &self.record)?.iter().any(is_good);
        if dropped {
            self.drop_copy(step, region, generation)?;
        } else if let Some(entry) = self.record.regions.iter_mut().find(|entry| entry.region == region.as_str()) {
            entry.suspect = true;
        }
        Ok(dropped)
    }

    /// Drops the copy of a region, which then wants the blob again.
    fn drop_copy(&mut self, step: &mut Step<'_>, region: &RegionId, generation: u64) -> Result<(), KvError> {
        if let Some(object) = self.leave(step, region, generation)? {
            self.discard(step, region, &object)?;
        }
        self.want(step, region, Due::now(step))
    }

    /// Puts what is beyond a job's cursor into the queue; true when it was. A copy in a replaced store is dropped
    /// with the store: its object is no garbage of the new one. If it was the last, the blob is lost.
    pub(super) fn settle(
        &mut self,
        step: &mut Step<'_>,
        region: &RegionId,
        generation: u64,
        due: Due,
    ) -> Result<bool, KvError> {
        if place(&self.record, region, generation)? != Place::Beyond {
            return Ok(false);
        }
        self.leave(step, region, generation)?;
        self.want(step, region, due)?;
        if !self.record.lost && copies(step.kv, &self.record)?.is_empty() {
            self.record.lost = true;
            step.update(&TotalsKey, |totals| totals.lost += 1)?;
        }
        Ok(true)
    }

    fn want(&mut self, step: &mut Step<'_>, region: &RegionId, due: Due) -> Result<(), KvError> {
        let (Due { revision, since_ms }, size) = (due, self.record.size);
        let key = WantedKey { region: region.clone(), revision, digest: self.digest };
        step.put(&key, &WantedRecord { size, since_ms });
        self.enter(InRegion { region: region.to_string(), wanted: revision.0, ..Default::default() });
        self.count(step, region, |counters, size| {
            counters.wanted += 1;
            counters.wanted_bytes += size;
            counters.wanted_from = counters.wanted_from.min(revision.0);
        })
    }

    /// Takes the blob out of its state in a region. The object of a copy is left to the caller.
    fn leave(
        &mut self,
        step: &mut Step<'_>,
        region: &RegionId,
        generation: u64,
    ) -> Result<Option<ObjectName>, KvError> {
        let place = place(&self.record, region, generation)?;
        self.record.regions.retain(|entry| entry.region != region.as_str());
        if let Place::Wanted(revision) = place {
            step.delete(&WantedKey { region: region.clone(), revision, digest: self.digest });
            step.taken.insert(region.clone());
        }
        self.count(step, region, |counters, size| match place {
            Place::Held(_) => {
                counters.held -= 1;
                counters.held_bytes -= size;
            }
            Place::Wanted(_) => {
                counters.wanted -= 1;
                counters.wanted_bytes -= size;
            }
            Place::Beyond => {
                counters.beyond -= 1;
                counters.beyond_bytes -= size;
            }
        })?;
        Ok(if let Place::Held(object) = place { Some(object) } else { None })
    }

    fn enter(&mut self, entry: InRegion) {
        let at = self.record.regions.partition_point(|other| other.region < entry.region);
        self.record.regions.insert(at, entry);
    }

    fn discard(&self, step: &mut Step<'_>, region: &RegionId, object: &ObjectName) -> Result<(), KvError> {
        let key = GarbageKey { region: region.clone(), revision: step.revision, object: *object };
        let (digest, size, since_ms) = (self.digest.to_bytes(), self.record.size, step.time_ms);
        step.put(&key, &GarbageRecord { digest, size, since_ms });
        self.count(step, region, |counters, size| {
            counters.garbage += 1;
            counters.garbage_bytes += size;
        })
    }

    fn count(
        &self,
        step: &mut Step<'_>,
        region: &RegionId,
        change: impl FnOnce(&mut RegionCounters, u64),
    ) -> Result<(), KvError> {
        step.update(&RegionCountersKey { region: region.clone() }, |counters| change(counters, self.record.size))
    }
}

impl Step<'_> {
    /// Raises the low-water bound of each queue from which something was taken to its present head.
    pub(super) fn advance_queues(&mut self) -> Result<(), KvError> {
        for region in std::mem::take(&mut self.taken) {
            let key = RegionCountersKey { region: region.clone() };
            let mut counters = self.get_or_default(&key)?;
            let from = WantedKey::from_revision(&region, Revision(counters.wanted_from));
            let head = self.page::<WantedKey>(&WantedKey::of_region(&region), &from, 1)?;
            counters.wanted_from = head.first().map_or(self.revision.0, |(head, _)| head.revision.0);
            self.put(&key, &counters);
        }
        Ok(())
    }
}

//! Which blobs each region lacks, and since which change: looked up blob by blob after each change, and not from the
//! queues and counters that this is compared with.

use std::collections::BTreeMap;

use atoll_metadata::{Command, KvError, KvRead, read};
use atoll_types::{Digest, RegionId};

/// When regions lacked blobs.
#[derive(Default)]
pub(super) struct Absences(BTreeMap<RegionId, BTreeMap<Digest, Vec<Absence>>>);

/// A blob that a region lacks, or lacked.
pub(super) struct Absence {
    /// By this revision it was lacking.
    pub(super) from: u64,
    /// And by this one it was not any more.
    until: Option<u64>,
    pub(super) size: u64,
}

impl Absence {
    fn covers(&self, revision: u64) -> bool {
        self.from <= revision && self.until.is_none_or(|until| revision < until)
    }
}

impl Absences {
    /// Looks at blobs after a change.
    pub(super) fn look<'a>(
        &mut self,
        kv: &dyn KvRead,
        revision: u64,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<(), KvError> {
        let regions = read::regions(kv)?;
        for digest in digests {
            let blob = read::blob(kv, digest)?;
            for region in regions.iter().map(|region| &region.region) {
                let lacking = blob.as_ref().filter(|blob| blob.copies.iter().all(|(of, _)| of != region));
                self.note(region, digest, revision, lacking.map(|blob| blob.size));
            }
        }
        Ok(())
    }

    /// With a size, the blob is lacking.
    fn note(&mut self, region: &RegionId, digest: &Digest, revision: u64, size: Option<u64>) {
        let of_blob = self.0.entry(region.clone()).or_default().entry(*digest).or_default();
        match (of_blob.last_mut().filter(|last| last.until.is_none()), size) {
            (Some(last), None) => last.until = Some(revision),
            (None, Some(size)) => of_blob.push(Absence { from: revision, until: None, size }),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// What a region lacked at a revision.
    pub(super) fn at(&self, region: &RegionId, revision: u64) -> impl Iterator<Item = &Absence> {
        let of_region = self.0.get(region).into_iter().flat_map(BTreeMap::values).flatten();
        of_region.filter(move |absence| absence.covers(revision))
    }
}

/// The blobs that a command may place, or take away from a region; `None`: any.
pub(super) fn touched(command: &Command) -> Option<Vec<Digest>> {
    Some(match command {
        Command::LinkBlob { digest, .. } | Command::DeleteBlob { digest, .. } => vec![*digest],
        Command::RecordCopies { copies, .. } => copies.iter().map(|copy| copy.digest).collect(),
        Command::DropCopies { copies, .. } => copies.iter().map(|copy| copy.digest).collect(),
        Command::DropLinks { links } => links.iter().map(|link| link.digest).collect(),
        Command::RegisterRegion { .. } | Command::SetStore { .. } | Command::ContinueJob { .. } => return None,
        _ => Vec::new(),
    })
}

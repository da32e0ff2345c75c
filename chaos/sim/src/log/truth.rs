//! What is committed: the log, the state that it makes, and what tags and stores may be compared with.

use std::collections::{BTreeMap, BTreeSet};

use atoll_metadata::{Applied, Command, Entry, MemoryKv, Outcome, Rejection, read};
use atoll_types::{Digest, ObjectName, RegionId, RepositoryName, Revision, Tag};

use super::absences::{Absences, touched};
use super::apply::apply;
use crate::judge::Judge;

/// From which revision on, and to what; `None`: it was removed.
type TagMove = (u64, Option<Digest>);

/// A change, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) revision: u64,
    /// In leader time.
    pub(crate) stamp_ms: u64,
    /// In virtual time.
    pub(crate) at_ms: u64,
}

/// What a region lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// Since when the oldest of them.
    pub(crate) oldest: Option<Moment>,
}

/// A committed log, applied.
pub(crate) struct Truth {
    pub(crate) kv: MemoryKv,
    entries: Vec<Entry>,
    /// The state hash after each revision; that of nothing before the first.
    hashes: Vec<u128>,
    /// When each entry was committed, in virtual time.
    times_ms: Vec<u64>,
    absences: Absences,
    last_ms: u64,
    /// What each tag pointed to, from which revision on.
    tags: BTreeMap<(RepositoryName, Tag), Vec<TagMove>>,
    /// Every blob that was ever linked.
    digests: BTreeSet<Digest>,
    judge: Judge,
}

impl Truth {
    pub(super) fn new(judge: Judge) -> Self {
        let kv = MemoryKv::new();
        let hashes = vec![kv.hash()];
        Self {
            kv,
            entries: Vec::new(),
            hashes,
            times_ms: Vec::new(),
            absences: Absences::default(),
            last_ms: 0,
            tags: BTreeMap::new(),
            digests: BTreeSet::new(),
            judge,
        }
    }

    /// Leader time never goes back.
    pub(super) fn stamp(&mut self, wall_ms: u64) -> u64 {
        self.last_ms = self.last_ms.max(wall_ms);
        self.last_ms
    }

    pub(super) fn commit(&mut self, entry: Entry, at_ms: u64) -> (u64, Applied) {
        let revision = self.entries.len() as u64 + 1;
        // As it comes out of the log.
        let entry = match Entry::decode(&entry.encode()) {
            Ok(decoded) if decoded == entry => decoded,
            other => {
                self.judge.violated("I12", format!("an entry does not survive its encoding: {other:?}"));
                entry
            }
        };
        let applied = apply(&mut self.kv, Revision(revision), &entry).unwrap_or_else(|error| {
            self.judge.violated("I12", format!("revision {revision} cannot be applied: {error}"));
            Applied { revision: Revision(revision), outcome: Outcome::Rejected(Rejection::Expired) }
        });
        self.note(revision, &entry.command);
        self.note_absences(revision, &entry.command);
        self.hashes.push(self.kv.hash());
        self.times_ms.push(at_ms);
        self.entries.push(entry);
        (revision, applied)
    }

    fn note_absences(&mut self, revision: u64, command: &Command) {
        let looked = match touched(command) {
            Some(digests) => self.absences.look(&self.kv, revision, digests.iter()),
            None => self.absences.look(&self.kv, revision, self.digests.iter()),
        };
        if let Err(error) = looked {
            self.judge.violated("harness", format!("the blobs of revision {revision} cannot be read: {error}"));
        }
    }

    fn note(&mut self, revision: u64, command: &Command) {
        let of: Vec<(RepositoryName, Tag)> = match command {
            Command::PutManifest(put) => {
                put.tags.iter().map(|update| (put.repository.clone(), update.tag.clone())).collect()
            }
            Command::LinkBlob { digest, .. } => {
                self.digests.insert(*digest);
                return;
            }
            Command::DeleteTag { repository, tag } => vec![(repository.clone(), tag.clone())],
            Command::DeleteManifest { repository, .. } => {
                self.tags.keys().filter(|(of, _)| of == repository).cloned().collect()
            }
            _ => return,
        };
        for key in of {
            let now = read::tag(&self.kv, &key.0, &key.1).ok().flatten().map(|(digest, _)| digest);
            let moves = self.tags.entry(key).or_default();
            if moves.last().and_then(|(_, digest)| *digest) != now {
                moves.push((revision, now));
            }
        }
    }

    /// What would come of an entry, which is then forgotten: a planted bug.
    pub(super) fn pretend(&self, entry: &Entry) -> (u64, Outcome) {
        let (mut kv, revision) = (self.kv.clone(), self.entries.len() as u64);
        let applied = apply(&mut kv, Revision(revision + 1), entry);
        (revision, applied.map_or(Outcome::Rejected(Rejection::Expired), |applied| applied.outcome))
    }

    /// An entry, by its revision.
    pub(super) fn entry(&self, revision: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(revision).ok()?.checked_sub(1)?)
    }

    pub(super) fn hash_at(&self, revision: u64) -> Option<u128> {
        self.hashes.get(usize::try_from(revision).ok()?).copied()
    }

    /// When a change was made.
    pub(crate) fn moment(&self, revision: u64) -> Option<Moment> {
        let at_ms = *self.times_ms.get(usize::try_from(revision).ok()?.checked_sub(1)?)?;
        // Applying clamps it, but a leader's stamps never go back.
        let stamp_ms = self.entry(revision)?.time_ms;
        Some(Moment { revision, stamp_ms, at_ms })
    }

    /// What a region lacked at a revision.
    pub(crate) fn lacking(&self, region: &RegionId, revision: u64) -> Lacking {
        let mut lacking = Lacking { blobs: 0, bytes: 0, oldest: None };
        let mut oldest = None;
        for absence in self.absences.at(region, revision) {
            (lacking.blobs, lacking.bytes) = (lacking.blobs + 1, lacking.bytes + absence.size);
            oldest = Some(oldest.map_or(absence.from, |oldest: u64| oldest.min(absence.from)));
        }
        lacking.oldest = oldest.and_then(|from| self.moment(from));
        lacking
    }

    /// Tags of a repository that existed at every revision from one to another.
    pub(crate) fn tags_throughout(&self, repository: &RepositoryName, from: u64, to: u64) -> Vec<Tag> {
        let there = |moves: &[TagMove]| {
            let before = moves.iter().rev().find(|(at, _)| *at <= from).is_some_and(|(_, digest)| digest.is_some());
            before && moves.iter().filter(|(at, _)| (from + 1..=to).contains(at)).all(|(_, digest)| digest.is_some())
        };
        let of = self.tags.iter().filter(|((of, _), moves)| of == repository && there(moves));
        of.map(|((_, tag), _)| tag.clone()).collect()
    }

    /// A region's copies, as they are recorded.
    pub(crate) fn copies(&self, region: &RegionId) -> Vec<(Digest, ObjectName)> {
        let copy = |digest: &Digest| {
            let copies = read::blob(&self.kv, digest).ok().flatten()?.copies;
            copies.into_iter().find(|(of, _)| of == region).map(|(_, object)| (*digest, object))
        };
        self.digests.iter().filter_map(copy).collect()
    }
}

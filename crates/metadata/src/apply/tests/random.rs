//! Random commands over a small universe: after each, every invariant is recomputed from scratch.

use std::collections::{BTreeMap, BTreeSet};

use atoll_types::Revision;
use proptest::prelude::*;

use super::*;
use crate::{CopyItem, DropItem};

const REPOSITORIES: [&str; 3] = ["team/a", "team/b", "other"];
const REGIONS: [&str; 3] = ["east", "west", "south"];
const BLOBS: [&str; 4] = ["zero", "one", "two-two", "three"];
const TAGS: [&str; 4] = ["v1", "v2", "v3", "latest"];
/// `stored` has its body in a blob of the same name.
const MANIFESTS: [&str; 5] = ["image", "signature", "index", "stored", "empty"];

/// One step; the numbers choose modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Region(usize),
    Store(usize, u8, bool),
    Upload(usize, usize, usize, u8),
    Mount(usize, usize, usize),
    Put(usize, usize, u8, u8),
    DeleteManifest(usize, usize),
    DeleteTag(usize, usize),
    DeleteBlob(usize, usize),
    Record(usize, usize, u8),
    Drop(usize, usize, bool),
    Forget(usize),
    Sweep(usize),
    Job(usize),
    Condemn,
    DropLinks,
    Jump(u32),
    Duplicate(usize),
    Lose(Box<Op>),
    Late(usize),
}

fn simple() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (0..3usize).prop_map(Op::Region),
        1 => (0..3usize, 0..2u8, prop::bool::weighted(0.8)).prop_map(|(r, s, right)| Op::Store(r, s, right)),
        6 => (0..3usize, 0..5usize, 0..3usize, any::<u8>()).prop_map(|(n, b, r, odd)| Op::Upload(n, b, r, odd)),
        3 => (0..3usize, 0..3usize, 0..5usize).prop_map(|(n, from, b)| Op::Mount(n, from, b)),
        8 => (0..3usize, 0..5usize, any::<u8>(), any::<u8>()).prop_map(|(n, m, tags, odd)| Op::Put(n, m, tags, odd)),
        3 => (0..3usize, 0..5usize).prop_map(|(n, m)| Op::DeleteManifest(n, m)),
        1 => (0..3usize, 0..4usize).prop_map(|(n, t)| Op::DeleteTag(n, t)),
        2 => (0..3usize, 0..5usize).prop_map(|(n, b)| Op::DeleteBlob(n, b)),
        4 => (0..3usize, 0..5usize, any::<u8>()).prop_map(|(r, b, odd)| Op::Record(r, b, odd)),
        2 => (0..3usize, 0..5usize, any::<bool>()).prop_map(|(r, b, right)| Op::Drop(r, b, right)),
        1 => (0..3usize).prop_map(Op::Forget),
        1 => (0..3usize).prop_map(Op::Sweep),
        4 => (0..4usize).prop_map(Op::Job),
        1 => Just(Op::Condemn),
        1 => Just(Op::DropLinks),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => simple(),
        1 => prop_oneof![Just(30_000u32), Just(65_530), Just(70_000)].prop_map(Op::Jump),
        1 => any::<usize>().prop_map(Op::Duplicate),
        3 => simple().prop_map(|op| Op::Lose(Box::new(op))),
        3 => any::<usize>().prop_map(Op::Late),
    ]
}

/// The world, what was sent to it, and when each thing last changed as far as clients were told.
struct Run {
    world: World,
    /// Copies that were reported when they were the last ones, and are recorded still.
    suspects: BTreeSet<(Digest, RegionId, ObjectName)>,
    /// Since when each region lacks each blob that it should have, in leader time.
    due: BTreeMap<(RegionId, Digest), u64>,
    /// Regions whose ages may be told too high, since a job counted for them.
    had_job: BTreeSet<RegionId>,
    sent: Vec<(Entry, Applied)>,
    lost: Vec<Entry>,
    written: BTreeMap<String, u64>,
    deleted: BTreeMap<String, u64>,
}

fn blob_name(index: usize) -> &'static str {
    BLOBS.get(index).copied().unwrap_or("stored")
}

fn manifest(to: &str, index: usize) -> PutManifest {
    let name = MANIFESTS[index];
    let references = match name {
        "image" => vec![blob("zero"), blob("one"), blob("one")],
        "signature" => vec![blob("one"), blob("two-two")],
        "index" => vec![ManifestReference::Manifest(digest("image")), ManifestReference::Manifest(digest("signature"))],
        "stored" => vec![blob("zero"), blob("three")],
        _ => vec![],
    };
    let mut put = put(to, name, references, &[]);
    if name == "signature" {
        put.subject = Some(digest("image"));
        put.annotations = Some(vec![("key".into(), "value".into())]);
    }
    if name == "stored" {
        put.body = ManifestBody::Stored { size: name.len() as u64 };
    }
    put
}

impl Run {
    fn command(&mut self, op: &Op) -> Option<Command> {
        let world = &mut self.world;
        Some(match op {
            Op::Region(r) => Command::RegisterRegion { region: region(REGIONS[*r]) },
            Op::Store(r, number, right) => {
                let (name, of) = (REGIONS[*r], region(REGIONS[*r]));
                let present = read::region(&world.kv, &of).unwrap().and_then(|r| r.store);
                let replaces = if *right { present } else { Some(store(name, 7)) };
                Command::SetStore { region: of, store: store(name, *number), replaces }
            }
            Op::Upload(n, b, r, odd) => {
                let mut command = world.upload(REPOSITORIES[*n], blob_name(*b), REGIONS[*r]);
                if let Command::LinkBlob { size, source: BlobSource::Uploaded { object, store: of, .. }, .. } =
                    &mut command
                {
                    match odd % 16 {
                        0 => *size += 1,
                        1 => *of = store("nowhere", 0),
                        2 => *object = world.object_at(0),
                        _ => {}
                    }
                }
                command
            }
            Op::Mount(n, from, b) => Command::LinkBlob {
                repository: repository(REPOSITORIES[*n]),
                digest: digest(blob_name(*b)),
                size: blob_name(*b).len() as u64,
                source: BlobSource::Mounted { from: repository(REPOSITORIES[*from]) },
            },
            Op::Put(n, m, tags, odd) => {
                let mut put = manifest(REPOSITORIES[*n], *m);
                let expected = match odd % 8 {
                    0 => Expected::Absent,
                    1 => Expected::Digest(digest("image")),
                    _ => Expected::Any,
                };
                let chosen = TAGS.iter().enumerate().filter(|(bit, _)| tags & (1 << bit) != 0);
                put.tags = chosen.map(|(_, name)| TagUpdate { tag: tag(name), expected }).collect();
                if odd % 16 == 9 {
                    put.media_type = "other/type".into();
                }
                command(put)
            }
            Op::DeleteManifest(n, m) => delete_manifest(REPOSITORIES[*n], MANIFESTS[*m]),
            Op::DeleteTag(n, t) => delete_tag(REPOSITORIES[*n], TAGS[*t]),
            Op::DeleteBlob(n, b) => delete_blob(REPOSITORIES[*n], blob_name(*b)),
            Op::Record(r, b, odd) => record(world, REGIONS[*r], *b, *odd),
            Op::Drop(r, b, right) => {
                let (of, digest) = (region(REGIONS[*r]), digest(blob_name(*b)));
                let copies = read::blob(&world.kv, &digest).unwrap().map(|b| b.copies).unwrap_or_default();
                let held = copies.into_iter().find(|(at, _)| *at == of).map(|(_, object)| object);
                let object = held.filter(|_| *right).unwrap_or_else(|| world.object(&of));
                Command::DropCopies { region: of, copies: vec![DropItem { digest, object }; 2] }
            }
            Op::Forget(r) => {
                let of = region(REGIONS[*r]);
                Command::ForgetGarbage { objects: read::garbage(&world.kv, &of, None, 2).unwrap(), region: of }
            }
            Op::Sweep(r) => {
                world.time_ms += 13 * 3_600_000;
                Command::AdvanceSweep { region: region(REGIONS[*r]) }
            }
            Op::Job(index) => {
                let jobs = read::jobs(&world.kv, 10).unwrap();
                Command::ContinueJob { job: jobs.get(*index % jobs.len().max(1)).copied().unwrap_or(Revision(1)) }
            }
            Op::Condemn => Command::CondemnLinks { links: idle(world, false) },
            Op::DropLinks => Command::DropLinks { links: idle(world, true) },
            Op::Jump(_) | Op::Duplicate(_) | Op::Lose(_) | Op::Late(_) => return None,
        })
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Jump(revisions) => self.world.revision += u64::from(*revisions),
            Op::Duplicate(index) => self.duplicate(*index),
            Op::Lose(op) => {
                if let Some(command) = self.command(op) {
                    let entry = self.world.entry(command);
                    self.lost.push(entry);
                }
            }
            Op::Late(index) if !self.lost.is_empty() => {
                let mut entry = self.lost[index % self.lost.len()].clone();
                entry.envelope.attempt = 1;
                self.late(&entry);
            }
            Op::Late(_) => {}
            other => {
                if let Some(command) = self.command(other) {
                    let entry = self.world.entry(command);
                    self.send(&entry);
                }
            }
        }
        self.check_ages();
        invariants::check(&self.world.kv);
    }

    /// The age of the oldest that a region lacks is never told too low, and exactly where no job was at work.
    fn check_ages(&mut self) {
        let (kv, now_ms) = (&self.world.kv, self.world.time_ms);
        let regions: Vec<RegionId> = read::regions(kv).unwrap().into_iter().map(|region| region.region).collect();
        let blobs = recorded(kv);
        let holds = |(region, digest): &(RegionId, Digest)| {
            blobs.get(digest).is_none_or(|copies| copies.iter().any(|(at, _)| at == region))
        };
        self.due.retain(|pair, _| !holds(pair));
        let pairs = regions.iter().flat_map(|region| blobs.keys().map(|digest| (region.clone(), *digest)));
        for pair in pairs.filter(|pair| !holds(pair)) {
            self.due.entry(pair).or_insert(now_ms);
        }
        for region in regions {
            let lag = read::lag(kv, &region).unwrap();
            if lag.at_most {
                self.had_job.insert(region.clone());
            }
            let oldest = self.due.iter().filter(|((of, _), _)| *of == region).map(|(_, since)| *since).min();
            if self.had_job.contains(&region) {
                let (told, since) = (lag.oldest_since_ms, oldest);
                assert!(told.is_some() == since.is_some() && told <= since, "{region}: told {told:?}, due {since:?}");
            } else {
                assert_eq!(lag.oldest_since_ms, oldest, "{region}");
            }
        }
    }

    fn send(&mut self, entry: &Entry) -> Applied {
        let before = self.world.kv.clone();
        let applied = self.world.apply(entry);
        if matches!(applied.outcome, Outcome::Done(_)) && applied.revision.0 == self.world.revision {
            self.note(&before, &entry.command);
            self.suspect(&before, &entry.command);
        }
        self.sent.push((entry.clone(), applied.clone()));
        applied
    }

    /// The same request again has the same answer, for as long as outcomes are kept.
    fn duplicate(&mut self, index: usize) {
        if self.sent.is_empty() {
            return;
        }
        let (mut entry, first) = self.sent[index % self.sent.len()].clone();
        entry.envelope.attempt += 1;
        let before = self.world.kv.clone();
        let again = self.world.apply(&entry);
        if self.world.revision - entry.envelope.seen.0 <= 65_536 {
            assert_eq!(again, first);
        } else if again != first {
            assert_eq!(again.outcome, Outcome::Rejected(Rejection::Expired), "the outcome is gone");
        }
        if let Command::PutManifest(put) = &entry.command {
            for update in &put.tags {
                let read = |kv| read::tag(kv, &put.repository, &update.tag).unwrap();
                assert_eq!(read(&self.world.kv), read(&before), "a duplicate moves nothing");
            }
        }
    }

    /// A request that arrives late and was never applied: it undoes nothing that others were told after it was sent.
    fn late(&mut self, entry: &Entry) {
        let seen = entry.envelope.seen.0;
        let latest = |of: &BTreeMap<String, u64>, thing: &str| of.get(thing).copied().unwrap_or(0);
        // What was deleted and made again since is there by a newer request: an older one adds nothing to it.
        let gone_since = |thing: &str| {
            let deleted = latest(&self.deleted, thing);
            deleted > seen && deleted > latest(&self.written, thing)
        };
        let mut conflict = false;
        match &entry.command {
            Command::LinkBlob { repository, digest, .. } => {
                conflict = gone_since(&format!("link {repository} {digest}"));
            }
            Command::PutManifest(put) => {
                conflict |= gone_since(&format!("manifest {} {}", put.repository, put.digest));
                for update in &put.tags {
                    let tag = format!("tag {} {}", put.repository, update.tag);
                    conflict |= latest(&self.written, &tag).max(latest(&self.deleted, &tag)) > seen;
                }
            }
            Command::DeleteManifest { repository, digest } => {
                conflict = latest(&self.written, &format!("manifest {repository} {digest}")) > seen;
            }
            Command::DeleteTag { repository, tag } => {
                conflict = latest(&self.written, &format!("tag {repository} {tag}")) > seen;
            }
            Command::DeleteBlob { repository, digest } => {
                conflict = latest(&self.written, &format!("link {repository} {digest}")) > seen;
            }
            _ => {}
        }
        let fresh = self.sent.iter().all(|(other, _)| other.envelope.request != entry.envelope.request);
        let applied = self.send(entry);
        if fresh && conflict {
            assert!(matches!(applied.outcome, Outcome::Rejected(_)), "{:?} came too late", entry.command);
        }
        if fresh && self.world.revision - seen > 65_536 {
            assert_eq!(applied.outcome, Outcome::Rejected(Rejection::Expired));
        }
    }

    /// Recomputes the marks: one is made by a report of the last copy alone, and goes with the copy alone, which goes
    /// when it is uploaded again, or when another region has a good one.
    fn suspect(&mut self, before: &MemoryKv, command: &Command) {
        if let Command::DropCopies { region, copies } = command {
            for item in copies {
                let known = recorded(before).remove(&item.digest).unwrap_or_default();
                if known == [(region.clone(), item.object)] {
                    self.suspects.insert((item.digest, region.clone(), item.object));
                }
            }
        }
        let now = recorded(&self.world.kv);
        self.suspects.retain(|(digest, region, object)| {
            now.get(digest).is_some_and(|copies| copies.contains(&(region.clone(), *object)))
        });
        for (digest, copies) in now {
            let marked = self.suspects.iter().filter(|(of, ..)| *of == digest).count();
            let blob = read::blob(&self.world.kv, &digest).unwrap().unwrap();
            assert_eq!(blob.suspect, marked > 0, "the mark of {digest}");
            assert!(marked == 0 || copies.len() == 1, "{digest} is elsewhere, and its suspect copy is still there");
        }
    }

    /// Notes what an acknowledged command wrote and deleted.
    fn note(&mut self, before: &MemoryKv, command: &Command) {
        let now = self.world.revision;
        let mut links_gone = Vec::new();
        match command {
            Command::LinkBlob { repository, digest, .. } => {
                self.written.insert(format!("link {repository} {digest}"), now);
            }
            Command::PutManifest(put) => {
                self.written.insert(format!("manifest {} {}", put.repository, put.digest), now);
                for update in &put.tags {
                    self.written.insert(format!("tag {} {}", put.repository, update.tag), now);
                }
            }
            Command::DeleteManifest { repository, digest } => {
                self.deleted.insert(format!("manifest {repository} {digest}"), now);
                for name in TAGS {
                    if read::tag(before, repository, &tag(name)).unwrap().is_some_and(|(of, _)| of == *digest) {
                        self.deleted.insert(format!("tag {repository} {name}"), now);
                        assert_eq!(read::tag(&self.world.kv, repository, &tag(name)).unwrap(), None);
                    }
                }
            }
            Command::DeleteTag { repository, tag } => {
                self.deleted.insert(format!("tag {repository} {tag}"), now);
            }
            Command::DeleteBlob { repository, digest } => links_gone.push((repository.clone(), *digest)),
            Command::DropLinks { links } => {
                links_gone.extend(links.iter().map(|item| (item.repository.clone(), item.digest)));
            }
            _ => {}
        }
        for (repository, digest) in links_gone {
            if read::link(&self.world.kv, &repository, &digest).unwrap().is_none() {
                self.deleted.insert(format!("link {repository} {digest}"), now);
            }
        }
    }
}

/// All blobs of the universe that are linked, and their copies.
fn recorded(kv: &MemoryKv) -> BTreeMap<Digest, Vec<(RegionId, ObjectName)>> {
    let names = BLOBS.into_iter().chain(["stored"]).map(digest);
    names.filter_map(|digest| Some((digest, read::blob(kv, &digest).unwrap()?.copies))).collect()
}

fn record(world: &mut World, at: &str, index: usize, odd: u8) -> Command {
    let of = region(at);
    let store = read::region(&world.kv, &of).unwrap().and_then(|r| r.store).unwrap_or(store(at, 9));
    let name = blob_name(index);
    let object = if odd.is_multiple_of(8) { world.object_at(0) } else { world.object(&of) };
    let size = name.len() as u64 + u64::from(odd % 8 == 1);
    let mut copies = vec![CopyItem { digest: digest(name), size, object }];
    // The head of the queue, as a fetcher would, and the same once more.
    if let Some(head) = read::wanted(&world.kv, &of, None, 1).unwrap().first() {
        let item = CopyItem { digest: head.digest, size: head.size, object: world.object(&of) };
        copies.extend([item, item]);
    }
    Command::RecordCopies { region: of, store, copies }
}

fn idle(world: &World, condemned: bool) -> Vec<crate::LinkItem> {
    let page = read::idle_links(&world.kv, condemned, None, 2).unwrap();
    page.into_iter().map(|(item, _)| item).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_invariant_holds_after_every_command(
        regions in 0..3usize, ops in prop::collection::vec(op(), 30..60)
    ) {
        let world = World::with_regions(&REGIONS[..regions]);
        let mut run = Run {
            world,
            suspects: BTreeSet::new(),
            due: BTreeMap::new(),
            had_job: BTreeSet::new(),
            sent: vec![],
            lost: vec![],
            written: BTreeMap::new(),
            deleted: BTreeMap::new(),
        };
        for op in &ops {
            run.step(op);
        }
        // Whatever happened, the jobs come to an end, and then lag is the queue.
        for _ in 0..200 {
            let Some(job) = read::jobs(&run.world.kv, 1).unwrap().first().copied() else { break };
            run.world.ok(Command::ContinueJob { job });
        }
        prop_assert!(read::jobs(&run.world.kv, 1).unwrap().is_empty());
        for name in REGIONS {
            let lag = read::lag(&run.world.kv, &region(name)).unwrap();
            prop_assert_eq!(lag.blobs as usize, run.world.wanted(name).len());
            prop_assert!(!lag.at_most);
        }
    }
}

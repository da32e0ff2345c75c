//! What clients were told, and whether all of it can be true of one log that is applied in order.
//!
//! A write is told its revision, and a read the revision that moved the tag last. So there is nothing to search: the
//! revisions are the order, and what was over before something else began must come before it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use atoll_metadata::{KvError, KvRead, read};
use atoll_types::{Digest, RepositoryName, Revision, Tag};
use parking_lot::Mutex;

/// Tags that any client moves as it likes.
const FREE: usize = 4;

pub(crate) struct History {
    /// The last one is moved from what was read alone.
    pub(crate) registers: Vec<Register>,
    /// The newest revision that anybody was told.
    revision: AtomicU64,
    /// The latest leader time that anybody has read.
    time_ms: AtomicU64,
}

/// One tag, and all that was ever to be put there.
pub(crate) struct Register {
    pub(crate) repository: RepositoryName,
    pub(crate) is_chained: bool,
    versions: Mutex<HashMap<Digest, Version>>,
    /// The newest move that anybody was told.
    moved: AtomicU64,
}

#[derive(Clone, Copy)]
struct Version {
    /// What it was to replace, in a chain.
    after: Option<Digest>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It may be written at any time.
    Unknown,
    /// It was written at this revision.
    Acknowledged(u64),
    /// It was told that it never will be.
    Refused,
}

/// What is known when something begins: it must not see less.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    revision: u64,
    moved: u64,
    time_ms: u64,
}

/// What a read has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Of the barrier before it.
    pub(crate) barrier: Revision,
    pub(crate) tag: Option<(Digest, Revision)>,
    pub(crate) time_ms: u64,
}

/// What a node holds of one register.
pub(crate) struct Held {
    tag: Option<(Digest, Revision)>,
    manifests: HashMap<Digest, Option<Revision>>,
    moves: Vec<read::TagMove>,
}

pub(crate) fn latest() -> Tag {
    "latest".parse().expect("a tag")
}

impl History {
    pub(crate) fn new() -> Self {
        let free = (0..FREE).map(|number| Register::new(format!("free/{number}"), false));
        let registers = free.chain([Register::new("chained".to_owned(), true)]).collect();
        Self { registers, revision: AtomicU64::new(0), time_ms: AtomicU64::new(0) }
    }

    /// What is known of a register by now.
    pub(crate) fn known(&self, register: usize) -> Known {
        let load = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let moved = load(&self.registers[register].moved);
        Known { revision: load(&self.revision), moved, time_ms: load(&self.time_ms) }
    }

    /// A write was acknowledged.
    pub(crate) fn acknowledged(&self, register: usize, version: Digest, at: Revision, known: Known) {
        let register = &self.registers[register];
        assert!(at.0 > known.revision, "written at {at}, and {} was told before it began", known.revision);
        register.settle(version, Fate::Acknowledged(at.0));
        register.moved.fetch_max(at.0, Ordering::SeqCst);
        self.revision.fetch_max(at.0, Ordering::SeqCst);
    }

    /// A read has returned.
    pub(crate) fn read(&self, register: usize, seen: Seen, known: Known) {
        let (barrier, time_ms) = (seen.barrier.0, seen.time_ms);
        assert!(barrier >= known.revision, "a barrier at {barrier}, and {} was told before it", known.revision);
        assert!(time_ms >= known.time_ms, "leader time {time_ms}, and {} was told before", known.time_ms);
        let register = &self.registers[register];
        register.check_tag(seen.tag, known.moved);
        register.moved.fetch_max(seen.tag.map_or(0, |(_, moved)| moved.0), Ordering::SeqCst);
        self.revision.fetch_max(barrier, Ordering::SeqCst);
        self.time_ms.fetch_max(time_ms, Ordering::SeqCst);
    }

    /// All that a node holds, in the order of the registers.
    pub(crate) fn held(&self, kv: &dyn KvRead) -> Result<Vec<Held>, KvError> {
        self.registers.iter().map(|register| register.held(kv)).collect()
    }

    /// A node holds all that was acknowledged and nothing that was refused, in an order that fits.
    pub(crate) fn check_end(&self, held: &[Held]) {
        self.registers.iter().zip(held).for_each(|(register, held)| register.check_end(held));
        let mut moves: Vec<_> = held.iter().flat_map(|held| &held.moves).collect();
        moves.sort_by_key(|moved| moved.revision);
        assert!(moves.is_sorted_by_key(|moved| moved.time_ms), "leader time goes back: {moves:?}");
    }
}

impl Register {
    fn new(repository: String, is_chained: bool) -> Self {
        let repository = repository.parse().expect("a name");
        Self { repository, is_chained, versions: Mutex::default(), moved: AtomicU64::new(0) }
    }

    /// A write begins.
    pub(crate) fn begin(&self, version: Digest, after: Option<Digest>) {
        let earlier = self.versions.lock().insert(version, Version { after, fate: Fate::Unknown });
        assert!(earlier.is_none(), "no version is written twice");
    }

    /// A write was told that it never will be done.
    pub(crate) fn refused(&self, version: Digest) {
        self.settle(version, Fate::Refused);
    }

    fn settle(&self, version: Digest, fate: Fate) {
        let mut versions = self.versions.lock();
        versions.get_mut(&version).expect("it has begun").fate = fate;
    }

    fn version(&self, digest: &Digest) -> Version {
        *self.versions.lock().get(digest).expect("only what clients wrote is there")
    }

    /// What a tag points to, where the move at `known` was told before.
    fn check_tag(&self, tag: Option<(Digest, Revision)>, known: u64) {
        let (name, at) = (&self.repository, tag.map_or(0, |(_, at)| at.0));
        assert!(at >= known, "{name}: it was moved at {at}, and {known} was told before");
        let Some((digest, _)) = tag else { return };
        match self.version(&digest).fate {
            Fate::Unknown => {}
            Fate::Acknowledged(told) => assert_eq!(told, at, "{name}: {digest} is there at another revision"),
            Fate::Refused => panic!("{name}: {digest} is there at {at}, and was refused"),
        }
    }

    fn held(&self, kv: &dyn KvRead) -> Result<Held, KvError> {
        let versions: Vec<Digest> = self.versions.lock().keys().copied().collect();
        let mut manifests = HashMap::new();
        for digest in versions {
            let manifest = read::manifest(kv, &self.repository, &digest)?;
            manifests.insert(digest, manifest.map(|manifest| manifest.revision));
        }
        let (name, tag) = (&self.repository, latest());
        Ok(Held { tag: read::tag(kv, name, &tag)?, manifests, moves: read::tag_history(kv, name, &tag, usize::MAX)? })
    }

    fn check_end(&self, held: &Held) {
        self.check_tag(held.tag, self.moved.load(Ordering::SeqCst));
        for (digest, at) in &held.manifests {
            let (name, fate) = (&self.repository, self.version(digest).fate);
            let fits = match fate {
                Fate::Unknown => true,
                Fate::Acknowledged(told) => *at == Some(Revision(told)),
                Fate::Refused => at.is_none(),
            };
            assert!(fits, "{name}: {digest} was {fate:?}, and is there at {at:?}");
        }
        if self.is_chained {
            self.check_chain(held);
        }
    }

    /// Each version replaced the very one that it was made from: none is lost, and none was written twice.
    fn check_chain(&self, held: &Held) {
        let (mut next, mut before, mut links) = (held.tag.map(|(digest, _)| digest), u64::MAX, 0);
        while let Some(digest) = next {
            let at = held.manifests.get(&digest).copied().flatten().expect("what the tag pointed to is there").0;
            assert!(at < before, "the chain goes from {at} back to {before}");
            (next, before, links) = (self.version(&digest).after, at, links + 1);
        }
        let there = held.manifests.values().flatten().count();
        assert_eq!(links, there, "what was ever in the chain is in it");
    }
}

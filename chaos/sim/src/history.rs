//! What clients did and saw, as the checkers of linearizability read it.

use std::collections::{BTreeMap, BTreeSet};

use atoll_types::{Digest, RepositoryName, Tag};

/// Something whose value clients write and read; each is linearizable by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Register {
    /// What a tag points to.
    Tag(RepositoryName, Tag),
    /// Whether a repository has a manifest.
    Manifest(RepositoryName, Digest),
    /// Whether a repository links a blob.
    Link(RepositoryName, Digest),
}

/// What was done to a register. Its value is a digest; where only being there counts, its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Written, whatever it was.
    Put(Digest),
    /// Written, if it was this.
    Swap(Option<Digest>, Digest),
    /// Removed, which needs that it is there.
    Remove,
    /// Removed, if it is this.
    RemoveIf(Digest),
    /// Seen.
    See(Option<Digest>),
    /// Seen to be something else.
    SeeNot(Digest),
}

/// Something done to a register, and when, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) deed: Deed,
    pub(crate) start_ms: u64,
    /// `None`: nobody knows whether, or when, it takes effect.
    pub(crate) end_ms: Option<u64>,
}

/// All registers that were touched.
#[derive(Default)]
pub(crate) struct History {
    events: BTreeMap<Register, Vec<Event>>,
    /// What somebody has begun to remove.
    removing: BTreeSet<Register>,
}

impl History {
    pub(crate) fn note(&mut self, register: Register, event: Event) {
        self.events.entry(register).or_default().push(event);
    }

    pub(crate) fn registers(&self) -> impl Iterator<Item = (&Register, &Vec<Event>)> {
        self.events.iter()
    }

    /// Somebody begins to remove it.
    pub(crate) fn removing(&mut self, register: Register) {
        self.removing.insert(register);
    }

    /// Whether anybody has begun to remove it.
    pub(crate) fn may_be_removed(&self, register: &Register) -> bool {
        self.removing.contains(register)
    }
}

//! A region's object store on a disk that may die: what was not synced is gone or torn, a sync may fail, room may end.
//!
//! An object is made as the `fs` store makes it: its file is synced, then it gets its name, then the folder is synced. A
//! crash before the name leaves a part of a file, which the next start sweeps; on a disk that does things in another
//! order than it was told to, the part has the name already. A crash before the folder is synced may take the name away
//! again. Whoever writes what cannot be synced is told so, and what is there from then on nobody knows.

mod mount;
mod power;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::{BlobStore as _, MemoryStore};
use atoll_types::{Digest, ObjectName};
use bytes::Bytes;
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::judge::Judge;
use crate::trace::Trace;

use mount::Mount;

/// The disk of a region. Its nodes share it.
pub(crate) struct Disk {
    pub(crate) objects: MemoryStore,
    state: Mutex<State>,
    judge: Judge,
    trace: Trace,
}

struct State {
    /// Objects that are being written and have no name yet.
    making: BTreeMap<u64, Making>,
    /// How many were begun.
    begun: u64,
    /// Names whose folder is not synced yet, and the node that made them.
    unsynced: Vec<(ObjectName, usize)>,
    /// The same of names whose sync has failed: the next crash may take them or tear them.
    unsure: Vec<(ObjectName, usize)>,
    /// Objects whose writer was told that they are not durable, or was never told that they are: nothing may name them.
    undurable: BTreeSet<ObjectName>,
    /// What torn objects should have been.
    torn: BTreeMap<ObjectName, (Digest, u64)>,
    /// Files without a name that dead nodes have left.
    leftovers: u64,
    /// Objects whose bytes were removed on request.
    deleted: BTreeSet<ObjectName>,
    /// Objects that a fault damaged or took.
    damaged: Vec<ObjectName>,
    writers: u64,
    full: bool,
    /// So many syncs will fail.
    failing_syncs: BTreeMap<Synced, u64>,
    /// Events after which an object may be left that nothing names.
    excuses: u64,
    /// Objects whose names were told to nobody: their node has died, or their sync has failed.
    untold: BTreeSet<ObjectName>,
    dice: Dice,
}

/// What of an object is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Synced {
    Bytes,
    /// The folder that has it.
    Name,
}

/// An object that is being written.
struct Making {
    name: ObjectName,
    node: usize,
    bytes: Vec<Bytes>,
    /// All of it is written, and being synced.
    is_syncing: bool,
}

/// More than any run writes.
const CAPACITY_BYTES: u64 = 1 << 40;

impl Disk {
    pub(crate) fn new(dice: Dice, judge: Judge, trace: Trace) -> Arc<Self> {
        let state = State {
            making: BTreeMap::new(),
            begun: 0,
            unsynced: Vec::new(),
            unsure: Vec::new(),
            undurable: BTreeSet::new(),
            torn: BTreeMap::new(),
            leftovers: 0,
            deleted: BTreeSet::new(),
            damaged: Vec::new(),
            writers: 0,
            full: false,
            failing_syncs: BTreeMap::new(),
            excuses: 0,
            untold: BTreeSet::new(),
            dice,
        };
        Arc::new(Self { objects: MemoryStore::new(CAPACITY_BYTES), state: Mutex::new(state), judge, trace })
    }

    /// The store as one node uses it, for as long as it lives. What dead ones have left unfinished is removed.
    pub(crate) fn mount(self: &Arc<Self>, node: usize, life: CancellationToken) -> Arc<Mount> {
        let swept = std::mem::take(&mut self.state.lock().leftovers);
        if swept > 0 {
            self.judge.fired_times("unfinished object swept", swept);
        }
        Arc::new(Mount { disk: self.clone(), node, life })
    }

    /// No room is left, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// So many syncs from now on fail.
    pub(crate) fn fail_syncs(&self, what: Synced, times: u64) {
        self.state.lock().failing_syncs.insert(what, times);
    }

    /// Whether this sync fails.
    fn sync_fails(&self, what: Synced) -> bool {
        let mut state = self.state.lock();
        let Some(left) = state.failing_syncs.get_mut(&what).filter(|left| **left > 0) else { return false };
        *left -= 1;
        self.judge.fired(match what {
            Synced::Bytes => "sync of an object failed",
            Synced::Name => "sync of an object's name failed",
        });
        true
    }

    fn sync_time(&self) -> Duration {
        let mut state = self.state.lock();
        // Now and then a disk has much to do.
        let slow = state.dice.chance(0.2);
        if slow { state.dice.millis(50, 400) } else { state.dice.millis(1, 12) }
    }

    /// Whether a node waits for such a sync.
    pub(crate) fn is_syncing(&self, node: usize, what: Synced) -> bool {
        let state = self.state.lock();
        match what {
            Synced::Name => state.unsynced.iter().any(|(_, of)| *of == node),
            Synced::Bytes => state.making.values().any(|making| making.node == node && making.is_syncing),
        }
    }

    /// Damages an object at rest: flips a bit of it, or cuts it short.
    pub(crate) fn damage(&self, object: &ObjectName, size: u64) -> bool {
        let mut state = self.state.lock();
        let (at, cut) = (state.dice.between(0, size.saturating_sub(1)), state.dice.chance(0.3));
        let done = if cut { self.objects.truncate(object, at) } else { self.objects.flip_bit(object, at, 3) };
        if done {
            state.damaged.push(*object);
            self.judge.fired(if cut { "object cut short at rest" } else { "bit flipped at rest" });
        }
        done
    }

    pub(crate) fn is_damaged(&self, object: &ObjectName) -> bool {
        self.state.lock().damaged.contains(object)
    }

    /// All bytes of an object, as they are; `None` if it is not there.
    pub(crate) async fn bytes(&self, object: &ObjectName) -> Option<Bytes> {
        let size = self.objects.stat(object).await.ok()?.size;
        let pieces = self.objects.read(object, 0..size).await.ok()?;
        Some(pieces.try_collect::<Vec<_>>().await.ok()?.concat().into())
    }

    /// Whether the node asked for an object's bytes to be removed.
    pub(crate) fn was_deleted(&self, object: &ObjectName) -> bool {
        self.state.lock().deleted.contains(object)
    }

    /// Whether nobody was ever told that an object is durable.
    pub(crate) fn is_undurable(&self, object: &ObjectName) -> bool {
        self.state.lock().undurable.contains(object)
    }

    /// Objects that a crash tore, and what they should have been: digest and size.
    pub(crate) fn torn(&self) -> BTreeMap<ObjectName, (Digest, u64)> {
        self.state.lock().torn.clone()
    }

    /// Objects that are being written.
    pub(crate) fn writers(&self) -> u64 {
        self.state.lock().writers
    }

    /// Files without a name that dead nodes have left, and nobody has swept.
    pub(crate) fn leftovers(&self) -> u64 {
        self.state.lock().leftovers
    }

    /// After how many events something may be left that nothing names. A writer that was dropped while the name was
    /// synced is one.
    pub(crate) fn excuses(&self) -> u64 {
        let state = self.state.lock();
        state.excuses + state.unsynced.len() as u64
    }

    pub(crate) fn excuse(&self, times: u64) {
        self.state.lock().excuses += times;
    }

    /// Notes objects that nothing names although they are whole, since a node has died.
    pub(crate) fn left_untold(&self, names: impl IntoIterator<Item = ObjectName>) {
        self.state.lock().untold.extend(names);
    }

    /// Whether an object was left so.
    pub(crate) fn is_untold(&self, object: &ObjectName) -> bool {
        self.state.lock().untold.contains(object)
    }
}

impl State {
    /// A name whose sync has failed, or that was there before its bytes: nobody is told of it.
    fn is_not_durable(&mut self, name: ObjectName) {
        self.undurable.insert(name);
        self.untold.insert(name);
    }
}

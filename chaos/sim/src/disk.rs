//! A region's object store on a disk that may die: what was not synced is gone, a sync may fail, room may end.
//!
//! An object is made as the `fs` store makes it: its file is synced, then it gets its name, then the folder is synced. A
//! crash before the name leaves nothing that counts; one before the folder is synced may take the name away again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_blobstore::{BlobStore, BlockChecksums, ByteStream, MemoryStore, ObjectInfo, ObjectWriter, StoreError};
use atoll_types::{ClusterId, ObjectName, StoreId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::judge::Judge;
use crate::plant::{Plant, is_planted};
use crate::trace::Trace;

/// The disk of a region. Its nodes share it.
pub(crate) struct Disk {
    pub(crate) objects: MemoryStore,
    state: Mutex<State>,
    judge: Judge,
    trace: Trace,
}

struct State {
    /// Names whose folder is not synced yet, and the node that made them.
    unsynced: Vec<(ObjectName, usize)>,
    /// Objects whose bytes were removed on request, and how large they were.
    deleted: BTreeMap<ObjectName, ()>,
    /// Objects that a fault damaged or took.
    damaged: Vec<ObjectName>,
    writers: u64,
    full: bool,
    /// The next sync fails.
    sync_fails: bool,
    /// The node whose sync failed must end.
    failed: Option<CancellationToken>,
    /// Events after which an object may be left that nothing names.
    excuses: u64,
    /// Objects whose node died before their names were told to anybody.
    untold: BTreeSet<ObjectName>,
    dice: Dice,
}

/// More than any run writes.
const CAPACITY_BYTES: u64 = 1 << 40;

impl Disk {
    pub(crate) fn new(dice: Dice, judge: Judge, trace: Trace) -> Arc<Self> {
        let state = State {
            unsynced: Vec::new(),
            deleted: BTreeMap::new(),
            damaged: Vec::new(),
            writers: 0,
            full: false,
            sync_fails: false,
            failed: None,
            excuses: 0,
            untold: BTreeSet::new(),
            dice,
        };
        Arc::new(Self { objects: MemoryStore::new(CAPACITY_BYTES), state: Mutex::new(state), judge, trace })
    }

    /// The store as one node uses it, for as long as it lives.
    pub(crate) fn mount(self: &Arc<Self>, node: usize, life: CancellationToken) -> Arc<Mount> {
        Arc::new(Mount { disk: self.clone(), node, life })
    }

    /// A node's power goes: names that it had not synced may go with it.
    pub(crate) async fn lose_power(&self, node: usize) {
        let lost: Vec<ObjectName> = {
            let mut state = self.state.lock();
            state.excuses += 1;
            let (of_node, others) = std::mem::take(&mut state.unsynced).into_iter().partition(|(_, of)| *of == node);
            state.unsynced = others;
            let of_node: Vec<(ObjectName, usize)> = of_node;
            of_node.into_iter().map(|(name, _)| name).filter(|_| state.dice.chance(0.5)).collect()
        };
        for name in lost {
            self.judge.fired("name lost with the power");
            // A store in memory always can.
            let _ = self.objects.delete(&name).await;
        }
    }

    /// No room is left, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// The next sync fails.
    pub(crate) fn fail_next_sync(&self, fails: bool) {
        self.state.lock().sync_fails = fails;
    }

    /// The life of a node whose sync has failed since this was asked for the last time.
    pub(crate) fn take_failed(&self) -> Option<CancellationToken> {
        self.state.lock().failed.take()
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

    /// Whether the node asked for an object's bytes to be removed.
    pub(crate) fn was_deleted(&self, object: &ObjectName) -> bool {
        self.state.lock().deleted.contains_key(object)
    }

    /// Objects that are being written.
    pub(crate) fn writers(&self) -> u64 {
        self.state.lock().writers
    }

    /// After how many events something may be left that nothing names. A writer that was dropped while the name was
    /// synced is one.
    pub(crate) fn excuses(&self) -> u64 {
        let state = self.state.lock();
        state.excuses + state.unsynced.len() as u64
    }

    /// Notes objects that nothing names although they are whole, since a node has died.
    pub(crate) fn left_untold(&self, names: impl IntoIterator<Item = ObjectName>) {
        self.state.lock().untold.extend(names);
    }

    /// Whether an object was left so.
    pub(crate) fn is_untold(&self, object: &ObjectName) -> bool {
        self.state.lock().untold.contains(object)
    }

    fn sync_time(&self) -> Duration {
        let mut state = self.state.lock();
        // Now and then a disk has much to do.
        let slow = state.dice.chance(0.2);
        if slow { state.dice.millis(50, 400) } else { state.dice.millis(1, 12) }
    }

    pub(crate) fn excuse(&self, times: u64) {
        self.state.lock().excuses += times;
    }
}

/// The disk as one life of a node sees it.
pub(crate) struct Mount {
    disk: Arc<Disk>,
    node: usize,
    life: CancellationToken,
}

impl Mount {
    fn alive(&self) -> Result<(), StoreError> {
        if self.life.is_cancelled() { Err(StoreError::Other("this node is dead".into())) } else { Ok(()) }
    }

    fn room(&self) -> Result<(), StoreError> {
        if !self.disk.state.lock().full {
            return Ok(());
        }
        self.disk.judge.fired("disk full");
        Err(StoreError::Full("no space left on the device".into()))
    }

    async fn seek(&self) {
        let time = self.disk.state.lock().dice.millis(0, 2);
        sleep(time).await;
    }
}

#[async_trait]
impl BlobStore for Mount {
    fn kind(&self) -> &'static str {
        "fs"
    }

    async fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.alive()?;
        self.room()?;
        let inner = self.disk.objects.create(name).await?;
        self.disk.state.lock().writers += 1;
        let mount = Self { disk: self.disk.clone(), node: self.node, life: self.life.clone() };
        Ok(Box::new(Writer { open: Open(self.disk.clone()), mount, inner, name }))
    }

    async fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.alive()?;
        self.disk.objects.stat(name).await
    }

    async fn checksums(&self, name: &ObjectName) -> Result<Arc<BlockChecksums>, StoreError> {
        self.alive()?;
        self.seek().await;
        self.disk.objects.checksums(name).await
    }

    async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.alive()?;
        self.seek().await;
        self.disk.objects.read(name, range).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.alive()?;
        self.disk.state.lock().deleted.insert(*name, ());
        self.disk.trace.note("disk", &format!("{} removes {name}", self.node));
        self.disk.objects.delete(name).await
    }

    async fn list(&self, after: Option<&ObjectName>, limit: usize) -> Result<Vec<ObjectInfo>, StoreError> {
        self.alive()?;
        self.disk.objects.list(after, limit).await
    }

    async fn identify(&self, cluster: ClusterId) -> Result<StoreId, StoreError> {
        self.disk.objects.identify(cluster).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.alive()?;
        self.room()
    }
}

/// Counts a writer until it is gone.
struct Open(Arc<Disk>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state.lock().writers -= 1;
    }
}

/// An object being written.
struct Writer {
    open: Open,
    mount: Mount,
    inner: Box<dyn ObjectWriter>,
    name: ObjectName,
}

impl Writer {
    /// Whether this sync fails; if so, the node that made it must end.
    fn sync_fails(&self) -> bool {
        let mut state = self.mount.disk.state.lock();
        let fails = std::mem::take(&mut state.sync_fails);
        if fails {
            state.failed = Some(self.mount.life.clone());
            state.excuses += 1;
            self.mount.disk.judge.fired("sync failed");
        }
        fails
    }
}

#[async_trait]
impl ObjectWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.mount.alive()?;
        self.mount.room()?;
        self.inner.write(bytes).await
    }

    fn written(&self) -> u64 {
        self.inner.written()
    }

    async fn read_back(&mut self) -> Result<ByteStream, StoreError> {
        self.mount.alive()?;
        self.inner.read_back().await
    }

    async fn complete(self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError> {
        self.mount.room()?;
        let time = self.mount.disk.sync_time();
        sleep(time).await;
        self.mount.alive()?;
        if self.sync_fails() {
            return Err(StoreError::Other("input/output error while syncing".into()));
        }
        let Self { open, mount, inner, name } = *self;
        let disk = open.0.clone();
        inner.complete(checksums).await?;
        disk.state.lock().unsynced.push((name, mount.node));
        disk.trace.note("disk", &format!("{} names {name}", mount.node));
        let time = disk.sync_time();
        sleep(time).await;
        mount.alive()?;
        if is_planted(Plant::LostObject) && disk.state.lock().dice.chance(0.05) {
            disk.objects.delete(&name).await?;
        }
        disk.state.lock().unsynced.retain(|(unsynced, _)| *unsynced != name);
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        self.mount.alive()
    }
}

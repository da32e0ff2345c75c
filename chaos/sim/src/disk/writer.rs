//! An object being written.

use std::sync::Arc;

use async_trait::async_trait;
use atoll_blobstore::{BlobStore as _, BlockChecksums, ObjectWriter, StoreError};
use atoll_types::ObjectName;
use bytes::Bytes;

use super::mount::Mount;
use super::{Disk, Making, Synced};
use crate::plant::{Plant, is_planted};

/// What the `fs` store keeps in memory while a writer is parked, in bytes; more is written and synced.
const PARKED_BYTES_MAX: u64 = 4 << 10;

pub(super) struct Writer {
    open: Open,
    mount: Mount,
    inner: Box<dyn ObjectWriter>,
    name: ObjectName,
    /// Its file is gone: what it would hold is not known.
    has_failed: bool,
}

/// What the disk knows of a writer, until that is gone.
struct Open {
    disk: Arc<Disk>,
    number: u64,
}

impl Open {
    fn new(mount: &Mount, name: ObjectName) -> Self {
        let mut state = mount.disk.state.lock();
        state.writers += 1;
        state.begun += 1;
        let number = state.begun;
        state.making.insert(number, Making { name, node: mount.node, bytes: Vec::new(), is_syncing: false });
        Self { disk: mount.disk.clone(), number }
    }

    /// Of a node that has died the disk has forgotten it.
    fn change(&self, change: impl FnOnce(&mut Making)) {
        if let Some(making) = self.disk.state.lock().making.get_mut(&self.number) {
            change(making);
        }
    }

    /// The object has a name, and its folder is not synced yet.
    fn has_name(&self, name: ObjectName, node: usize) {
        let mut state = self.disk.state.lock();
        state.making.remove(&self.number);
        state.unsynced.push((name, node));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        state.writers -= 1;
        state.making.remove(&self.number);
    }
}

impl Writer {
    pub(super) fn new(mount: Mount, inner: Box<dyn ObjectWriter>, name: ObjectName) -> Self {
        Self { open: Open::new(&mount, name), mount, inner, name, has_failed: false }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.mount.alive()?;
        if self.has_failed { Err(StoreError::Other("its file could not be synced".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl ObjectWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.check()?;
        self.mount.room()?;
        self.open.change(|making| making.bytes.push(bytes.clone()));
        self.inner.write(bytes).await
    }

    fn written(&self) -> u64 {
        self.inner.written()
    }

    async fn park(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.written() <= PARKED_BYTES_MAX {
            return Ok(());
        }
        let synced = self.mount.sync(Synced::Bytes).await;
        self.has_failed = synced.is_err();
        synced
    }

    async fn complete(self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError> {
        self.check()?;
        self.mount.room()?;
        let Self { open, mount, inner, name, .. } = *self;
        open.change(|making| making.is_syncing = true);
        let bytes = mount.sync(Synced::Bytes).await;
        mount.alive()?;
        if bytes.is_err() && !is_planted(Plant::FailedSyncIgnored) {
            return bytes;
        }
        inner.complete(checksums).await?;
        open.has_name(name, mount.node);
        mount.disk.trace.note("disk", &format!("{} names {name}", mount.node));
        let synced = mount.sync(Synced::Name).await.and(bytes);
        mount.alive()?;
        mount.disk.settle(name, mount.node, synced.is_ok());
        if is_planted(Plant::LostObject) && mount.disk.state.lock().dice.chance(0.05) {
            mount.disk.objects.delete(&name).await?;
        }
        if is_planted(Plant::FailedSyncIgnored) { Ok(()) } else { synced }
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        self.mount.alive()
    }
}

impl Disk {
    /// The sync of a name has ended: if it failed, nobody knows what is there from now on.
    fn settle(&self, name: ObjectName, node: usize, is_synced: bool) {
        let mut state = self.state.lock();
        state.unsynced.retain(|(unsynced, _)| *unsynced != name);
        if !is_synced {
            state.unsure.push((name, node));
            state.is_not_durable(name);
        }
    }
}

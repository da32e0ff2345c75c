//! The disk as one life of a node sees it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_blobstore::{BlobStore, BlockChecksums, ByteStream, ObjectInfo, ObjectWriter, StoreError};
use atoll_types::{ClusterId, ObjectName, StoreId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::writer::Writer;
use super::{Disk, Synced};

/// The store of a node, until that dies.
#[derive(Clone)]
pub(crate) struct Mount {
    pub(super) disk: Arc<Disk>,
    pub(super) node: usize,
    pub(super) life: CancellationToken,
}

impl Mount {
    pub(super) fn alive(&self) -> Result<(), StoreError> {
        if self.life.is_cancelled() { Err(StoreError::Other("this node is dead".into())) } else { Ok(()) }
    }

    pub(super) fn room(&self) -> Result<(), StoreError> {
        if !self.disk.state.lock().full {
            return Ok(());
        }
        self.disk.judge.fired("disk full");
        Err(StoreError::Full("no space left on the device".into()))
    }

    /// A sync, which takes its time.
    pub(super) async fn sync(&self, what: Synced) -> Result<(), StoreError> {
        let time = self.disk.sync_time();
        sleep(time).await;
        self.alive()?;
        if self.disk.sync_fails(what) {
            self.disk.trace.note("disk", &format!("{} cannot sync: {what:?}", self.node));
            return Err(StoreError::Other("input/output error while syncing".into()));
        }
        Ok(())
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
        Ok(Box::new(Writer::new(self.clone(), inner, name)))
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
        self.disk.state.lock().deleted.insert(*name);
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

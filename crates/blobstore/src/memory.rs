//! A store in memory, for tests and simulation: the same contract, no disk.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use async_trait::async_trait;
use atoll_types::{ClusterId, ObjectName, StoreId};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use parking_lot::Mutex;

use crate::marker::Marker;
use crate::{BlobStore, BlockChecksums, ByteStream, ObjectInfo, ObjectWriter, StoreError};

/// A store in memory. Clones are the same store, as a mount is for two nodes.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    capacity_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By printed name, which is the order of lists.
    objects: BTreeMap<String, Stored>,
    used_bytes: u64,
    marker: Option<Marker>,
}

#[derive(Clone)]
struct Stored {
    info: ObjectInfo,
    bytes: Bytes,
    checksums: Arc<BlockChecksums>,
}

impl MemoryStore {
    /// An empty store that is [`StoreError::Full`] beyond this many bytes of completed objects.
    pub fn new(capacity_bytes: u64) -> Self {
        Self { shared: Arc::new(Shared { capacity_bytes, state: Mutex::default() }) }
    }

    /// Flips one bit of an object, as a disk might; false if it has no such byte.
    pub fn flip_bit(&self, name: &ObjectName, byte: u64, bit: u8) -> bool {
        self.damage(name, |bytes| match bytes.get_mut(byte as usize) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        })
    }

    /// Cuts an object short; false if it is no longer than that.
    pub fn truncate(&self, name: &ObjectName, size: u64) -> bool {
        self.damage(name, |bytes| {
            let shorter = (size as usize) < bytes.len();
            bytes.truncate(size as usize);
            shorter
        })
    }

    fn damage(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mut state = self.shared.state.lock();
        let Some(stored) = state.objects.get_mut(&name.to_string()) else { return false };
        let mut bytes = stored.bytes.to_vec();
        let changed = change(&mut bytes);
        stored.info.size = bytes.len() as u64;
        stored.bytes = bytes.into();
        changed
    }

    fn get(&self, name: &ObjectName) -> Result<Stored, StoreError> {
        self.shared.state.lock().objects.get(&name.to_string()).cloned().ok_or(StoreError::NotFound(*name))
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Ok(Box::new(MemoryWriter { shared: self.shared.clone(), name, bytes: BytesMut::new() }))
    }

    async fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        Ok(self.get(name)?.info)
    }

    async fn checksums(&self, name: &ObjectName) -> Result<Arc<BlockChecksums>, StoreError> {
        Ok(self.get(name)?.checksums)
    }

    async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let stored = self.get(name)?;
        if range.start > range.end || range.end > stored.info.size {
            let detail = format!("bytes {range:?} were asked for, and it has {}", stored.info.size);
            return Err(StoreError::Corrupt { object: *name, detail });
        }
        Ok(pieces(stored.bytes.slice(range.start as usize..range.end as usize)))
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let mut state = self.shared.state.lock();
        if let Some(gone) = state.objects.remove(&name.to_string()) {
            state.used_bytes = state.used_bytes.saturating_sub(gone.info.size);
        }
        Ok(())
    }

    async fn list(&self, after: Option<&ObjectName>, limit: usize) -> Result<Vec<ObjectInfo>, StoreError> {
        let after = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.to_string()));
        let state = self.shared.state.lock();
        Ok(state.objects.range((after, Bound::Unbounded)).take(limit).map(|(_, stored)| stored.info.clone()).collect())
    }

    async fn identify(&self, cluster: ClusterId) -> Result<StoreId, StoreError> {
        let mut state = self.shared.state.lock();
        let marker = state.marker.get_or_insert_with(|| Marker::new("memory", cluster));
        marker.check("the store in memory", "memory", cluster)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct MemoryWriter {
    shared: Arc<Shared>,
    name: ObjectName,
    bytes: BytesMut,
}

#[async_trait]
impl ObjectWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn complete(self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError> {
        let (name, size, key) = (self.name, self.written(), self.name.to_string());
        checksums.check_count(&name, size)?;
        let mut state = self.shared.state.lock();
        if state.objects.contains_key(&key) {
            return Err(StoreError::Other(format!("completing {name}: there is an object of that name")));
        }
        if state.used_bytes + size > self.shared.capacity_bytes {
            return Err(StoreError::Full(format!("completing {name}: no room for {size} bytes")));
        }
        state.used_bytes += size;
        let info = ObjectInfo { name, size };
        state.objects.insert(key, Stored { info, bytes: self.bytes.freeze(), checksums: Arc::new(checksums) });
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// In pieces that end at the borders of blocks of this run of bytes.
fn pieces(mut bytes: Bytes) -> ByteStream {
    let piece_bytes = BlockChecksums::BLOCK_BYTES as usize;
    let pieces = std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(piece_bytes));
        (!piece.is_empty()).then_some(Ok(piece))
    });
    stream::iter(pieces).boxed()
}

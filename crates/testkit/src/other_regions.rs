//! Read-through without a network: other regions' stores, read in the same process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use atoll_blobstore::{BlobStore, ByteStream, CheckedReader};
use atoll_metadata::read;
use atoll_registry::{ReadThrough, ReadThroughError};
use atoll_types::{Digest, RegionId};

use crate::LocalGroup;

/// The stores of the regions that a node is not in. Copies are found as in production: by the group's records.
pub struct OtherRegions {
    group: Arc<LocalGroup>,
    stores: BTreeMap<RegionId, CheckedReader>,
    unreachable: AtomicBool,
    reads: AtomicU64,
}

impl OtherRegions {
    /// Regions and their stores, all in reach.
    pub fn new(group: Arc<LocalGroup>, stores: impl IntoIterator<Item = (RegionId, Arc<dyn BlobStore>)>) -> Arc<Self> {
        let stores = stores.into_iter().map(|(region, store)| (region, CheckedReader::new(store, 1 << 20))).collect();
        Arc::new(Self { group, stores, unreachable: AtomicBool::new(false), reads: AtomicU64::new(0) })
    }

    /// Takes all of them out of reach, or back.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::SeqCst);
    }

    /// How many reads were asked for.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl ReadThrough for OtherRegions {
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let blob = self.group.read(|kv| read::blob(kv, digest))?;
        let (size, copies) = blob.map_or((0, Vec::new()), |blob| (blob.size, blob.copies));
        let elsewhere: Vec<_> = copies.into_iter().filter(|(region, _)| self.stores.contains_key(region)).collect();
        if !self.unreachable.load(Ordering::SeqCst) {
            for (region, object) in &elsewhere {
                let Some(store) = self.stores.get(region) else { continue };
                if let Ok(stream) = store.read(object, digest, size, range.clone()).await {
                    return Ok(stream);
                }
            }
        }
        Err(ReadThroughError::Unreachable(elsewhere.into_iter().map(|(region, _)| region).collect()))
    }
}

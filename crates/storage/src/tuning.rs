//! How much memory and how many files RocksDB may use, and how each family is laid out.

use rocksdb::{Cache, WriteBufferManager};

/// The block cache and the write buffers that a node's two databases share. Cheap to clone.
#[derive(Clone)]
pub struct Resources {
    pub(crate) cache: Cache,
    pub(crate) buffers: WriteBufferManager,
}

impl Resources {
    /// Block cache of a node, in bytes.
    pub const CACHE_BYTES: usize = 48 << 20;
    /// Write buffers of a node, in bytes.
    pub const BUFFER_BYTES: usize = 32 << 20;

    /// Resources of given sizes in bytes.
    pub fn new(cache_bytes: usize, buffer_bytes: usize) -> Self {
        Self {
            cache: Cache::new_lru_cache(cache_bytes),
            buffers: WriteBufferManager::new_write_buffer_manager(buffer_bytes, false),
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self::new(Self::CACHE_BYTES, Self::BUFFER_BYTES)
    }
}

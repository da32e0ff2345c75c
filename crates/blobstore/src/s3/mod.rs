//! A bucket of S3, or of a server that speaks as it does, as an object store.
//!
//! `keys` says where things are. Objects are their blob's bytes and no others, so that a presigned URL may give them. A
//! small one is put in one request and carries its block checksums in its metadata; a large one is uploaded in parts,
//! and its checksums are an object beside it that is there before it.
//!
//! Nothing here relies on conditional requests: names are never used twice. Where a server honours them, they are asked
//! for all the same.

mod api;
mod client;
mod error;
mod gathered;
mod keys;
mod list;
mod litter;
mod marker;
mod memory;
mod options;
mod read;
mod sweep;
mod upload;
mod write;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use atoll_types::{ClusterId, ObjectName, StoreId};
use rand::RngExt as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use self::options::{S3ChecksumMode, S3Credentials, S3Encryption, S3Options};
pub use self::sweep::Swept;

use self::api::Api;
use self::keys::Keys;
use self::litter::Bin;
use self::memory::Memory;
use crate::{BlobStore, BlockChecksums, ByteStream, ObjectInfo, ObjectWriter, StoreError};

/// How many parts are put together of tails at once, beside the memory of uploads.
const ASSEMBLIES: usize = 2;

/// An object store in a bucket.
#[derive(Clone)]
pub struct S3Store {
    shared: Arc<Shared>,
}

/// What the store, its writers and its streams have in common.
struct Shared {
    api: Arc<Api>,
    keys: Keys,
    options: S3Options,
    memory: Memory,
    assemblies: Arc<Semaphore>,
    /// Tails on their way.
    tasks: TaskTracker,
    bin: Bin,
    /// The name of this process's probe.
    probe: String,
    identity: OnceLock<StoreId>,
}

impl S3Store {
    /// Opens a store in a bucket, which must be there. Asks nothing of the server yet.
    pub async fn open(options: S3Options) -> Result<Self, StoreError> {
        options.check().map_err(StoreError::Other)?;
        let api = Arc::new(Api::new(client::build(&options).await?, &options));
        let shared = Shared {
            keys: Keys::new(&options.prefix),
            memory: Memory::new(options.upload_memory_bytes),
            assemblies: Arc::new(Semaphore::new(ASSEMBLIES)),
            tasks: TaskTracker::new(),
            probe: const_hex::encode(rand::rng().random::<[u8; 16]>()),
            bin: Bin::start(api.clone()),
            identity: OnceLock::new(),
            api,
            options,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl BlobStore for S3Store {
    fn kind(&self) -> &'static str {
        "s3"
    }

    async fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Ok(Box::new(write::S3Writer::new(self.shared.clone(), name)))
    }

    async fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        read::stat(&self.shared, *name).await
    }

    async fn checksums(&self, name: &ObjectName) -> Result<Arc<BlockChecksums>, StoreError> {
        read::checksums(&self.shared, *name).await.map(Arc::new)
    }

    async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<ByteStream, StoreError> {
        read::stream(&self.shared, *name, range).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        read::delete(&self.shared, *name).await
    }

    async fn list(&self, after: Option<&ObjectName>, limit: usize) -> Result<Vec<ObjectInfo>, StoreError> {
        list::page(&self.shared, after.copied(), limit).await
    }

    async fn identify(&self, cluster: ClusterId) -> Result<StoreId, StoreError> {
        marker::identify(&self.shared, cluster).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        marker::probe(&self.shared).await
    }
}

//! The trait, in S3's terms: no rename, no append, an object is there whole or not at all.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_types::{ClusterId, ObjectName, StoreId};
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::BlockChecksums;

/// Bytes as they come; an error ends the stream.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// What went wrong in a store. The message names the object and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No object of that name.
    #[error("object {0} is not in the store")]
    NotFound(ObjectName),
    /// Bytes do not match their checksum, or the object has the wrong length.
    #[error("object {object} is corrupt: {detail}")]
    Corrupt {
        /// The object.
        object: ObjectName,
        /// What was seen.
        detail: String,
    },
    /// No room left.
    #[error("the object store is full: {0}")]
    Full(String),
    /// It may pass: a time-out, a lost connection, an overloaded server.
    #[error("the object store does not answer: {0}")]
    Unavailable(String),
    /// The store belongs to another cluster or store id, or is unusable.
    #[error("{0}")]
    Marker(String),
    /// Anything else.
    #[error("object store: {0}")]
    Other(String),
}

/// What a store knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes, without what the store keeps beside it.
    pub size: u64,
}

/// A region's object store.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// `fs` or `s3`.
    fn kind(&self) -> &'static str;

    /// Starts an object. Nothing is visible until [`ObjectWriter::complete`]; dropping the writer removes all traces.
    async fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Size of an object; [`StoreError::NotFound`] if there is none.
    async fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError>;

    /// The checksums that were given when the object was completed. May be cached.
    async fn checksums(&self, name: &ObjectName) -> Result<Arc<BlockChecksums>, StoreError>;

    /// The bytes of a range, unchecked, in pieces of at most 256 KiB, with bounded read-ahead. A range beyond the end
    /// is [`StoreError::Corrupt`].
    async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<ByteStream, StoreError>;

    /// Removes an object; it is no error if there is none. Durable when it returns.
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// At most `limit` objects whose printed names are greater than that of `after`, in the order of printed names.
    /// Only an empty page is the end. The size of an object that is corrupt is a guess.
    async fn list(&self, after: Option<&ObjectName>, limit: usize) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Reads the marker of the store, or writes a new one if it has none. A marker of another cluster is
    /// [`StoreError::Marker`].
    async fn identify(&self, cluster: ClusterId) -> Result<StoreId, StoreError>;

    /// Writes, reads and removes a small object: whether the store works now.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// What a writer holds of its node's resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of memory, beyond a fixed size.
    pub memory_bytes: usize,
    /// Descriptors of files or connections.
    pub descriptors: usize,
}

/// An object being written.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Takes the next bytes, of any length; returns when there is room for more. A writer that failed once goes on
    /// failing. [`ObjectWriter::written`] tells whether a call that was dropped half-way took its bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// How many bytes were taken so far. A call of `write` takes all of its bytes at once, or none.
    fn written(&self) -> u64;

    /// Nothing more comes for a while: what is gathered is handed on, and as little memory and as few descriptors as
    /// may be are held until the next call. Nothing is lost when it is dropped half-way. For a store that holds nothing
    /// it does nothing.
    async fn park(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What the writer holds of this node's resources.
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    /// Makes the object durable and visible under its name: bytes, checksums and directory entries are synced when it
    /// returns. Never overwrites: a name that exists is an error, and so is a number of checksums that the size does
    /// not ask for ([`BlockChecksums::count_for`]). After an error the object may be there or not, as nobody knows it.
    async fn complete(self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError>;

    /// Removes all traces, and says whether that worked; dropping does the same without an answer.
    async fn abort(self: Box<Self>) -> Result<(), StoreError>;
}

//! The way in: what is written is hashed and checksummed as it passes.

use atoll_fault::planted;
use atoll_types::{Algorithm, Digest, Hasher, ObjectName};
use bytes::Bytes;
use futures::StreamExt as _;

use crate::{BlobStore, BlockChecksums, BlockHasher, Footprint, ObjectWriter, StoreError};

/// Longest run of bytes that is hashed without letting other tasks run.
const PIECE_BYTES_MAX: usize = BlockChecksums::BLOCK_BYTES as usize;

/// Writes one object and makes it visible only if it has the digest that was promised. It may live as long as an
/// upload session does, over any number of requests.
pub struct VerifyingWriter {
    object: ObjectName,
    inner: Box<dyn ObjectWriter>,
    hasher: Hasher,
    algorithm: Algorithm,
    blocks: BlockHasher,
}

/// An object that is durable, visible and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub object: ObjectName,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest: the expected one, now proved.
    pub digest: Digest,
}

/// Why an object was not finished.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The bytes have another digest than was promised; all traces are removed.
    #[error("the content has the digest {actual}, not {expected}; upload it again, or with the right digest")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VerifyingWriter {
    /// Starts an object in a store. `algorithm` is the one to hash with on the way: that of the digest to come, if it
    /// is known already.
    pub async fn create(store: &dyn BlobStore, object: ObjectName, algorithm: Algorithm) -> Result<Self, StoreError> {
        let inner = store.create(object).await?;
        Ok(Self { object, inner, hasher: algorithm.hasher(), algorithm, blocks: BlockHasher::default() })
    }

    /// The object's name.
    pub fn object(&self) -> ObjectName {
        self.object
    }

    /// How many bytes were written.
    pub fn len(&self) -> u64 {
        self.blocks.bytes()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest of what was written so far, by the algorithm that is hashed on the way: known before the object is
    /// durable.
    pub fn digest_so_far(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Takes the next bytes, of any length; returns when there is room for more. When it is dropped half-way, some of
    /// the bytes may have been taken: [`VerifyingWriter::len`] says how many.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
            self.check_in_step()?;
            self.hasher.update(&piece);
            self.blocks.update(&piece);
            self.inner.write(piece).await?;
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// Nothing more comes for a while: see [`ObjectWriter::park`].
    pub async fn park(&mut self) -> Result<(), StoreError> {
        self.blocks.shrink();
        self.inner.park().await
    }

    /// What it holds of this node's resources, itself included. The checksums of its blocks are part of that: 32 bytes
    /// for each MiB that is on the disk.
    pub fn footprint(&self) -> Footprint {
        let inner = self.inner.footprint();
        Footprint { memory_bytes: inner.memory_bytes + self.blocks.memory_bytes() + size_of::<Self>(), ..inner }
    }

    /// Proves the digest, then makes the object durable and visible. Otherwise all traces are removed.
    pub async fn finish(mut self, expected: &Digest) -> Result<Finished, WriteError> {
        self.check_in_step()?;
        let actual = self.digest(expected.algorithm()).await?;
        if actual != *expected && !planted!("upload_digest_unchecked") {
            // Who uploaded must learn of the digest, whether or not the store could tidy up; the next sweep will.
            if let Err(error) = self.inner.abort().await {
                tracing::warn!(object = %self.object, %error, "what was refused is not removed yet");
            }
            return Err(WriteError::DigestMismatch { expected: *expected, actual });
        }
        let size = self.blocks.bytes();
        self.inner.complete(self.blocks.finish()).await?;
        // The same as `actual`: it was compared.
        Ok(Finished { object: self.object, size, digest: *expected })
    }

    /// Removes all traces, and says whether that worked; dropping does the same without an answer.
    pub async fn abort(self) -> Result<(), StoreError> {
        self.inner.abort().await
    }

    /// The store must have taken exactly what was hashed, or the digest would prove something else. A call that was
    /// dropped between the two breaks that, and no later call can mend it.
    fn check_in_step(&self) -> Result<(), StoreError> {
        let (hashed, written) = (self.blocks.bytes(), self.inner.written());
        if hashed == written {
            return Ok(());
        }
        Err(StoreError::Other(format!(
            "a write to {} was interrupted: {hashed} bytes were hashed and {written} written; upload it again",
            self.object
        )))
    }

    /// The digest by any algorithm: the one hashed on the way is at hand, another needs the bytes once more.
    async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        if algorithm == self.algorithm {
            return Ok(self.hasher.clone().finish());
        }
        let (mut again, mut blocks) = (algorithm.hasher(), BlockHasher::default());
        let mut stored = self.inner.read_back().await?;
        while let Some(piece) = stored.next().await {
            let piece = piece?;
            again.update(&piece);
            blocks.update(&piece);
            tokio::task::coop::consume_budget().await;
        }
        // What was read back must be what was written, or the checksums would belong to other bytes.
        if blocks.bytes() != self.blocks.bytes() || blocks.finish() != self.blocks.clone().finish() {
            let detail = "what was read back is not what was written".to_owned();
            return Err(StoreError::Corrupt { object: self.object, detail });
        }
        Ok(again.finish())
    }
}

//! The way in: what is written is hashed and checksummed as it passes.

use std::sync::Arc;

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
    store: Arc<dyn BlobStore>,
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
    pub async fn create(
        store: &Arc<dyn BlobStore>,
        object: ObjectName,
        algorithm: Algorithm,
    ) -> Result<Self, StoreError> {
        let (store, inner) = (store.clone(), store.create(object).await?);
        Ok(Self { store, object, inner, hasher: algorithm.hasher(), algorithm, blocks: BlockHasher::default() })
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

    /// Proves the digest and makes the object durable and visible. Otherwise all traces are removed.
    pub async fn finish(self, expected: &Digest) -> Result<Finished, WriteError> {
        self.check_in_step()?;
        let (object, size) = (self.object, self.blocks.bytes());
        if expected.algorithm() == self.algorithm {
            self.finish_hashed(expected).await?;
        } else {
            self.finish_by_reading(expected).await?;
        }
        // The expected one, for it was compared.
        Ok(Finished { object, size, digest: *expected })
    }

    /// The digest is known from what passed.
    async fn finish_hashed(self, expected: &Digest) -> Result<(), WriteError> {
        let actual = self.hasher.finish();
        if actual != *expected && !planted!("upload_digest_unchecked") {
            // Who uploaded must learn of the digest, whether or not the store could tidy up; the next sweep will.
            if let Err(error) = self.inner.abort().await {
                tracing::warn!(object = %self.object, %error, "what was refused is not removed yet");
            }
            return Err(WriteError::DigestMismatch { expected: *expected, actual });
        }
        Ok(self.inner.complete(self.blocks.finish()).await?)
    }

    /// The digest is by another algorithm than was hashed on the way: the object is completed, under a name that nobody
    /// knows, read, and removed if it is not what was promised. What is not complete cannot be read in every store.
    async fn finish_by_reading(self, expected: &Digest) -> Result<(), WriteError> {
        let Self { store, object, inner, blocks, .. } = self;
        let (size, checksums) = (blocks.bytes(), blocks.finish());
        inner.complete(checksums.clone()).await?;
        let proved = match digest(&*store, &object, size, expected.algorithm()).await {
            Ok((_, read)) if read != checksums => {
                let detail = "what was read back is not what was written".to_owned();
                Err(StoreError::Corrupt { object, detail }.into())
            }
            Ok((actual, _)) if actual != *expected && !planted!("upload_digest_unchecked") => {
                Err(WriteError::DigestMismatch { expected: *expected, actual })
            }
            Ok(_) => return Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = store.delete(&object).await {
            tracing::warn!(%object, %error, "what was refused is not removed yet");
        }
        proved
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
}

/// The digest of an object by an algorithm, and the checksums of the blocks that were read for it.
async fn digest(
    store: &dyn BlobStore,
    object: &ObjectName,
    size: u64,
    algorithm: Algorithm,
) -> Result<(Digest, BlockChecksums), StoreError> {
    let (mut hasher, mut blocks) = (algorithm.hasher(), BlockHasher::default());
    let mut stored = store.read(object, 0..size).await?;
    while let Some(piece) = stored.next().await {
        let piece = piece?;
        hasher.update(&piece);
        blocks.update(&piece);
        tokio::task::coop::consume_budget().await;
    }
    if blocks.bytes() != size {
        let detail = format!("{} bytes of {size} could be read back", blocks.bytes());
        return Err(StoreError::Corrupt { object: *object, detail });
    }
    Ok((hasher.finish(), blocks.finish()))
}

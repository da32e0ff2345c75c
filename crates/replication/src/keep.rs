//! From verified bytes to a recorded copy: the object in the region's store, then its record.

use std::sync::Arc;

use atoll_blobstore::{BlobStore, StoreError, VerifyingWriter, WriteError};
use atoll_fault::{planted, step};
use atoll_metadata::{CopyItem, CopyOutcome, KvError, read};
use atoll_registry::{MetadataGroup, MetadataGroupExt, NoRoom};
use atoll_types::{Digest, ObjectName};
use tokio_util::task::TaskTracker;

use crate::LocalNode;
use crate::record::{RecordError, Recorder, is_recorded};

/// Other regions sent bytes of another digest.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the bytes that came have digest {actual}, not {expected}")]
pub(crate) struct WrongDigest {
    pub(crate) expected: Digest,
    pub(crate) actual: Digest,
}

/// Why a blob was not kept.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Digest(Box<WrongDigest>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the copy was refused: {0:?}")]
    Refused(CopyOutcome),
    #[error(transparent)]
    View(#[from] KvError),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// What became of a blob whose bytes are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The region has a copy.
    Recorded,
    /// Nobody wants it here by now, or another copy is recorded.
    NotWanted,
}

/// Writes objects into the region's store and records them.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) local: LocalNode,
    pub(crate) metadata: Arc<dyn MetadataGroup>,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) recorder: Recorder,
    /// What is being kept; whoever stops the node waits for it.
    pub(crate) tasks: TaskTracker,
}

impl Keeper {
    /// Starts an object under a name of the region's sweep epoch.
    pub(crate) async fn begin(&self, digest: &Digest) -> Result<VerifyingWriter, KeepError> {
        let region = self.metadata.read(|kv| read::region(kv, &self.local.region))?;
        let name = ObjectName::random(region.map_or(0, |r| r.sweep_epoch));
        Ok(VerifyingWriter::create(&self.store, name, digest.algorithm()).await?)
    }

    /// Proves the digest, makes the object durable, and records it: to its end, also if nobody waits for that any more.
    /// Given up in its midst, it would leave an object that nothing names.
    pub(crate) async fn finish(&self, writer: VerifyingWriter, digest: &Digest) -> Result<Kept, KeepError> {
        let (keeper, digest) = (self.clone(), *digest);
        let kept = self.tasks.spawn(async move { keeper.to_its_end(writer, &digest).await });
        kept.await.unwrap_or_else(|error| Err(RecordError::Unknown(error.to_string()).into()))
    }

    async fn to_its_end(&self, writer: VerifyingWriter, digest: &Digest) -> Result<Kept, KeepError> {
        if planted!("copy_recorded_before_stored") {
            let copy = CopyItem { digest: *digest, size: writer.len(), object: writer.object() };
            self.recorder.record(copy).await?;
        }
        let finished = match step!("copy.finish", writer.finish(digest).await) {
            Ok(finished) => finished,
            Err(WriteError::DigestMismatch { expected, actual }) => {
                return Err(KeepError::Digest(Box::new(WrongDigest { expected, actual })));
            }
            Err(WriteError::Store(error)) => return Err(error.into()),
        };
        let copy = CopyItem { digest: *digest, size: finished.size, object: finished.object };
        match self.recorder.record(copy).await {
            Ok(outcome) if is_recorded(outcome) => Ok(Kept::Recorded),
            Ok(outcome) => {
                self.remove(&copy.object).await;
                if outcome == CopyOutcome::NotWanted { Ok(Kept::NotWanted) } else { Err(KeepError::Refused(outcome)) }
            }
            Err(error) => {
                if matches!(error, RecordError::NotRecorded(_)) || planted!("unknown_copy_removed") {
                    self.remove(&copy.object).await;
                }
                Err(error.into())
            }
        }
    }

    /// Removes an object that no record names. One that stays is swept later.
    async fn remove(&self, object: &ObjectName) {
        if let Err(error) = step!("copy.remove", self.store.delete(object).await) {
            tracing::warn!(%object, %error, "an object that no copy names stays until it is swept");
        }
    }
}

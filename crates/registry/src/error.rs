//! Why a use case has no result. HTTP statuses and OCI codes are made of these in `http`, in one file.

use atoll_auth::Denied;
use atoll_blobstore::StoreError;
use atoll_metadata::{KvError, Rejection};
use atoll_types::{Digest, RegionId, Revision};

use crate::{BarrierError, NoRoom, ProposeError};

/// Why a use case has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// The group refused the command.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The write has no outcome.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// A barrier did not pass.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// This node is read-only: writes are refused at once.
    #[error("region {region} is read-only: no quorum is in reach; push to another region or try again")]
    ReadOnly {
        /// The node's region.
        region: RegionId,
    },
    /// The identity may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The blob is in other regions only, and none of them answers.
    #[error("blob {digest} is not in this region, and no region that holds it answers: {}", list(regions))]
    Elsewhere {
        /// The blob.
        digest: Digest,
        /// Where it is.
        regions: Vec<RegionId>,
    },
    /// The last copy of the blob is suspect, and it could not be read now either.
    #[error(
        "the last copy of blob {digest}, in {}, is missing or corrupt; push it again, to any region",
        list(regions)
    )]
    Damaged {
        /// The blob.
        digest: Digest,
        /// Where the copy is.
        regions: Vec<RegionId>,
    },
    /// The bytes do not have the digest that was promised.
    #[error("the content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// No such upload session here, or not of this repository.
    #[error("upload session {0} does not exist; start a new one")]
    UploadUnknown(String),
    /// A chunk does not go on where the last one ended.
    #[error("the chunk starts at {stated}, but the session has {offset} bytes; go on from there")]
    UploadRange {
        /// Where it says that it starts.
        stated: u64,
        /// Where the session is.
        offset: u64,
    },
    /// The body is not as long as its headers say.
    #[error("the body has {actual} bytes, the request says {stated}")]
    SizeInvalid {
        /// What the headers say.
        stated: u64,
        /// What came.
        actual: u64,
    },
    /// The client went away or sent too slowly.
    #[error("the request body ended early: {0}")]
    BodyTorn(String),
    /// Two requests for one session at once.
    #[error("upload session {0} is busy with another request")]
    UploadBusy(String),
    /// The manifest is not valid.
    #[error("{0}")]
    ManifestInvalid(String),
    /// The manifest is larger than the limit.
    #[error("the manifest has {actual} bytes or more, the limit is {limit}")]
    ManifestTooLarge {
        /// What it has, at least.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// A revision that is asked for is far ahead of what is applied here.
    #[error("revision {asked} is not applied here (this node is at {applied}); try again later")]
    RevisionAhead {
        /// What was asked for.
        asked: Revision,
        /// Where the node is.
        applied: Revision,
    },
    /// A disk of this node is nearly full: nothing more is taken in.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Over a limit of this node; try again later.
    #[error("{0}")]
    Busy(String),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metadata store failed.
    #[error(transparent)]
    View(#[from] KvError),
}

fn list(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
}

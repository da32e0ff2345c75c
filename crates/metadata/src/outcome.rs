//! What came of a command. Kept by request id, so that a retry gets the same answer.

use atoll_types::{Digest, NodeId, RepositoryName, Revision, Tag};

use crate::{NodeConflict, TooLarge};

/// A command's outcome and the revision that brought it. A request that was applied before yields the same value again,
/// with the original revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The change.
    pub revision: Revision,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done(Done),
    /// It was refused and changed nothing.
    Rejected(Rejection),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing to tell.
    Empty,
    /// A blob was linked.
    Linked,
    /// A manifest was put.
    ManifestPut {
        /// False if the very same manifest was there before.
        created: bool,
    },
    /// Something was deleted.
    Deleted {
        /// True when tags beyond the first few thousand are still to be removed by a job; they are hidden already.
        continues: bool,
    },
    /// One outcome for each item, in order.
    Copies(Vec<CopyOutcome>),
    /// A lease was asked for.
    Lease {
        /// Whether the one who asked holds it now.
        granted: bool,
        /// Who holds it.
        holder: NodeId,
        /// When it ends, in leader time.
        expires_ms: u64,
        /// The entry's own leader time, so that the holder can convert the end to its monotonic clock.
        now_ms: u64,
    },
    /// The region's sweep epoch.
    SweepEpoch(u64),
    /// A job went on.
    Job {
        /// True when nothing is left of it.
        finished: bool,
    },
}

/// What came of one copy of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Recorded (or dropped) now.
    Done,
    /// It was so before.
    Already,
    /// Nobody wants it, or another object is recorded: the fetcher deletes its object.
    NotWanted,
    /// The name's sweep epoch is too old: fetch it again under a new name.
    StaleEpoch,
    /// The size is not the blob's.
    SizeMismatch,
    /// The last copy of a linked blob is never dropped; it is suspect now.
    LastCopy,
}

/// Why a command was refused. Display is for people; HTTP decides the status and the OCI code. What is kept in the state
/// are the facts: no wording may get into a variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The repository does not exist.
    #[error("repository {0} does not exist")]
    RepositoryUnknown(RepositoryName),
    /// The manifest does not exist in the repository.
    #[error("manifest {0} does not exist in this repository")]
    ManifestUnknown(Digest),
    /// The tag does not exist.
    #[error("tag {0} does not exist in this repository")]
    TagUnknown(Tag),
    /// The blob is not linked to the repository.
    #[error("blob {0} does not exist in this repository")]
    BlobUnknown(Digest),
    /// A put refers to blobs that are not linked to the repository (the first few).
    #[error("the manifest refers to blobs that this repository does not have: {}; push them first", list(.0))]
    BlobsMissing(Vec<Digest>),
    /// A put refers to child manifests that are not in the repository (the first few).
    #[error("the index refers to manifests that this repository does not have: {}; push them first", list(.0))]
    ManifestsMissing(Vec<Digest>),
    /// A descriptor's size is not the blob's.
    #[error("the descriptor of {digest} says {stated} bytes, the blob has {actual}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// What was said.
        stated: u64,
        /// What it is.
        actual: u64,
    },
    /// A tag was not what the put expected.
    #[error("tag {tag} is not what the request expects: it is {}", found.map_or("absent".to_owned(), |d| d.to_string()))]
    TagConflict {
        /// The tag.
        tag: Tag,
        /// What it points to.
        found: Option<Digest>,
    },
    /// Something refers to what was to be deleted.
    #[error("{digest} is referred to by manifest {by} of this repository; delete that first")]
    Referenced {
        /// What was to be deleted.
        digest: Digest,
        /// A manifest that refers to it.
        by: Digest,
    },
    /// A retry that came too late, or whose target has changed since: after an earlier attempt, unknown.
    #[error(
        "the request is too old to be applied safely; read the current state and send it anew under a new request id"
    )]
    Expired,
    /// The object's sweep epoch is too old to be recorded: upload again.
    #[error("the upload took longer than the sweep allows; upload again")]
    StaleEpoch,
    /// The region has another store than the one that the command names.
    #[error("the object store is not that of its region: {0}")]
    StoreMismatch(String),
    /// The region is not registered.
    #[error("region {0} is not registered")]
    RegionUnknown(String),
    /// Another cluster or epoch.
    #[error("the command is meant for another cluster or epoch")]
    WrongCluster,
    /// The command needs a newer feature level than is active.
    #[error("the command needs feature level {0}")]
    FeatureLevel(u32),
    /// The policy of this name forbids it.
    #[error("policy {0} forbids it")]
    Denied(String),
    /// Over a limit.
    #[error("{0}")]
    TooLarge(TooLarge),
    /// A node's number or name is taken by another.
    #[error("{0}")]
    NodeConflict(NodeConflict),
    /// The request id belongs to another command that was applied.
    #[error("the request id was used for another request; a request id names one write")]
    RequestReused,
    /// The manifest is there under another media type.
    #[error("manifest {digest} is stored as {found:?}; put it with that media type, or delete it first")]
    MediaTypeConflict {
        /// The manifest.
        digest: Digest,
        /// The media type that it was put with.
        found: String,
    },
    /// No such job.
    #[error("there is no job {0}")]
    JobUnknown(Revision),
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

//! What the use cases need of others.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use atoll_blobstore::ByteStream;
use atoll_metadata::{Command, KvError, KvRead, Outcome};
use atoll_types::{Digest, RegionId, RequestId, Revision};
use tokio::time::Instant;

/// Whether writes can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A quorum is in reach.
    ReadWrite,
    /// The node cannot prove that it reaches a quorum.
    ReadOnly,
}

impl Mode {
    /// As in JSON, metrics and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        }
    }
}

/// How current this node's view is. One value, made in one place (the barrier), asked by every handler.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// The newest revision applied here.
    pub applied: Revision,
    /// The mode.
    pub mode: Mode,
    /// How old the view may be; `None` is unknown: no barrier has succeeded since the start.
    pub staleness: Option<Duration>,
    /// When the node became read-only; `None` while it is not.
    pub read_only_since: Option<SystemTime>,
}

/// A write to be made.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What.
    pub command: Command,
    /// Names the write; a client's own, or random.
    pub request: RequestId,
    /// The revision that the client knew (its own request id), or that was applied here when the request arrived.
    pub seen: Revision,
    /// True when the request id is the client's own and may have been tried before.
    pub may_be_retry: bool,
    /// Who asks; empty for the system itself.
    pub actor: String,
    /// From where; may be empty.
    pub client_address: String,
    /// Until when it must be answered.
    pub deadline: Instant,
}

/// A write that was made, or refused, by the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The change.
    pub revision: Revision,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a write has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was provably never proposed: 503.
    #[error("nothing was written: {0}")]
    NotProposed(String),
    /// It may have been written or not, or may yet be: 504.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
}

/// Why a barrier did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// No quorum within the deadline.
    #[error("no quorum is in reach")]
    NoQuorum,
    /// The revision was not applied here within the deadline.
    #[error("revision {0} is not applied here yet")]
    Behind(Revision),
}

/// The metadata group as this node sees it.
#[async_trait]
pub trait MetadataGroup: Send + Sync + 'static {
    /// Runs a closure over one consistent view of what is applied here. The closure must be short: it runs where it
    /// is called. It may be run twice, the first time with reads that fail since the state has moved on; what it was
    /// told the last time counts. Use [`MetadataGroupExt::read`].
    fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError>;

    /// Makes a write at whatever node leads, and waits until it is applied here (or committed, if that takes long).
    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError>;

    /// Waits until this node has applied all that was committed anywhere when it was called.
    async fn barrier(&self, deadline: Instant) -> Result<Revision, BarrierError>;

    /// Waits until a revision is applied here.
    async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError>;

    /// How current the view is.
    fn freshness(&self) -> Freshness;
}

/// Typed reading.
pub trait MetadataGroupExt {
    /// Runs a closure over one consistent view of what is applied here, and hands its last result on.
    fn read<R>(&self, read: impl FnMut(&dyn KvRead) -> Result<R, KvError>) -> Result<R, KvError>;
}

impl<M: MetadataGroup + ?Sized> MetadataGroupExt for M {
    fn read<R>(&self, mut read: impl FnMut(&dyn KvRead) -> Result<R, KvError>) -> Result<R, KvError> {
        let mut result = None;
        self.read_with(&mut |kv| result = Some(read(kv)))?;
        result.unwrap_or_else(|| Err(KvError("the view was not read".into())))
    }
}

/// Why a blob that is elsewhere cannot be streamed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadThroughError {
    /// No region that holds it answers.
    #[error("no region that holds the blob answers; it is in {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Unreachable(Vec<RegionId>),
    /// Too many fetches at once.
    #[error("too many blobs are being fetched from other regions; try again")]
    Busy,
    /// This node's view failed.
    #[error(transparent)]
    View(#[from] KvError),
}

/// Streams blobs that this region does not hold.
#[async_trait]
pub trait ReadThrough: Send + Sync + 'static {
    /// The bytes of a range of a blob, checked, from the nearest region that holds it; shared with all who ask for
    /// the same blob meanwhile. It returns once the first byte is at hand, so that an error can still be a status.
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError>;

    /// The same for a client that has a part of its body already. It can have no status any more, only a body that is
    /// cut, and a client that starts again costs more than one that waits: so this waits for longer.
    async fn go_on(&self, digest: &Digest, range: Range<u64>) -> Result<ByteStream, ReadThroughError> {
        self.read(digest, range).await
    }
}

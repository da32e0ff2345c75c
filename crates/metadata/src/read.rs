//! Reading the state: what the use cases, replication and administration ask of a view.
//!
//! Every list is paged and bounded by its caller's limit.

use atoll_types::{ClusterId, Digest, NodeId, ObjectName, RegionId, RepositoryName, Revision, StoreId, Tag};

use crate::{KvError, KvRead, ManifestBody, RegisterNode};

/// Result of a read.
pub type Result<T> = std::result::Result<T, KvError>;

/// The cluster's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster.
    pub id: ClusterId,
    /// Its epoch.
    pub epoch: u64,
}

/// A manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// The Content-Type it was put with.
    pub media_type: String,
    /// Its body.
    pub body: ManifestBody,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// The change that wrote it.
    pub revision: Revision,
}

/// A manifest that refers to a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its artifact type, or empty.
    pub artifact_type: String,
    /// Its annotations; `None` when they must be read from the body.
    pub annotations: Option<Vec<(String, String)>>,
}

/// Whether a repository links a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Live,
    /// It does until a grace period ends, unless something revives it.
    Condemned {
        /// The change that condemned it.
        revision: Revision,
        /// When, in leader time.
        since_ms: u64,
    },
}

/// A blob and where its copies are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its size in bytes.
    pub size: u64,
    /// Where it is, by region.
    pub copies: Vec<(RegionId, ObjectName)>,
}

/// One entry of a region's replication queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Since which change.
    pub revision: Revision,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Since when, in leader time.
    pub since_ms: u64,
}

/// How far a region lags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Blobs that it wants.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when the oldest is wanted, in leader time.
    pub oldest_since_ms: Option<u64>,
    /// True while a job is still adding to or taking from it: then it is an upper bound.
    pub at_most: bool,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub region: RegionId,
    /// Its store, once a node has told.
    pub store: Option<StoreId>,
    /// Whether its fetching is paused.
    pub paused: bool,
    /// Its sweep epoch.
    pub sweep_epoch: u64,
}

/// A lease of a region's duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub holder: NodeId,
    /// Until when, in leader time.
    pub expires_ms: u64,
}

/// The leader time of the newest entry applied, in milliseconds since the Unix epoch.
pub fn last_time_ms(_kv: &dyn KvRead) -> Result<u64> {
    todo!()
}

/// The cluster's identity, once it was initialised.
pub fn cluster(_kv: &dyn KvRead) -> Result<Option<Cluster>> {
    todo!()
}

/// Whether a repository exists.
pub fn repository_exists(_kv: &dyn KvRead, _name: &RepositoryName) -> Result<bool> {
    todo!()
}

/// Repositories after `last`, by name.
pub fn repositories(_kv: &dyn KvRead, _last: Option<&str>, _limit: usize) -> Result<Vec<RepositoryName>> {
    todo!()
}

/// What a tag points to, and the change that moved it there.
pub fn tag(_kv: &dyn KvRead, _repository: &RepositoryName, _tag: &Tag) -> Result<Option<(Digest, Revision)>> {
    todo!()
}

/// Tags after `last` (which need not exist or be valid), in byte order.
pub fn tags(_kv: &dyn KvRead, _repository: &RepositoryName, _last: Option<&str>, _limit: usize) -> Result<Vec<Tag>> {
    todo!()
}

/// A manifest by digest.
pub fn manifest(_kv: &dyn KvRead, _repository: &RepositoryName, _digest: &Digest) -> Result<Option<Manifest>> {
    todo!()
}

/// Manifests that refer to a subject, after `last`, by digest.
pub fn referrers(
    _kv: &dyn KvRead,
    _repository: &RepositoryName,
    _subject: &Digest,
    _last: Option<&Digest>,
    _limit: usize,
) -> Result<Vec<Referrer>> {
    todo!()
}

/// Whether a repository links a blob.
pub fn link(_kv: &dyn KvRead, _repository: &RepositoryName, _digest: &Digest) -> Result<Option<LinkState>> {
    todo!()
}

/// Some repositories that link a blob, after `last`.
pub fn linking_repositories(
    _kv: &dyn KvRead,
    _digest: &Digest,
    _last: Option<&str>,
    _limit: usize,
) -> Result<Vec<RepositoryName>> {
    todo!()
}

/// A blob's size and copies.
pub fn blob(_kv: &dyn KvRead, _digest: &Digest) -> Result<Option<Blob>> {
    todo!()
}

/// A region's replication queue after an entry, oldest first.
pub fn wanted(
    _kv: &dyn KvRead,
    _region: &RegionId,
    _after: Option<(Revision, Digest)>,
    _limit: usize,
) -> Result<Vec<Wanted>> {
    todo!()
}

/// A region's lag. Reads counters and the head of its queue: its cost does not grow with the lag.
pub fn lag(_kv: &dyn KvRead, _region: &RegionId) -> Result<Lag> {
    todo!()
}

/// A region's garbage, oldest first: objects whose bytes are to be removed.
pub fn garbage(
    _kv: &dyn KvRead,
    _region: &RegionId,
    _after: Option<(Revision, ObjectName)>,
    _limit: usize,
) -> Result<Vec<(Revision, ObjectName)>> {
    todo!()
}

/// All regions, by name.
pub fn regions(_kv: &dyn KvRead) -> Result<Vec<Region>> {
    todo!()
}

/// One region.
pub fn region(_kv: &dyn KvRead, _region: &RegionId) -> Result<Option<Region>> {
    todo!()
}

/// All nodes, by number.
pub fn nodes(_kv: &dyn KvRead) -> Result<Vec<RegisterNode>> {
    todo!()
}

/// The lease of a region's duty.
pub fn lease(_kv: &dyn KvRead, _region: &RegionId, _duty: &str) -> Result<Option<Lease>> {
    todo!()
}

/// Jobs that are not finished, oldest first.
pub fn jobs(_kv: &dyn KvRead, _limit: usize) -> Result<Vec<Revision>> {
    todo!()
}

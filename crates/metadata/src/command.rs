//! What can be asked of the metadata group. One command is one Raft entry is one revision.

use atoll_types::{
    ClusterId, Digest, Incarnation, NodeId, NodeName, ObjectName, RegionId, RepositoryName, RequestId, Revision,
    StoreId, Tag,
};
use bytes::Bytes;

/// A command as it stands in the log: stamped by the leader, with the envelope of who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since the Unix epoch, stamped by the leader and clamped in apply, so that it never goes back.
    pub time_ms: u64,
    /// Who asked, and for what attempt.
    pub envelope: Envelope,
    /// What is asked.
    pub command: Command,
}

/// Travels with every command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Names the write, however often it is sent.
    pub request: RequestId,
    /// Zero for the first attempt.
    pub attempt: u32,
    /// The revision that was applied at the node when the first attempt arrived.
    pub seen: Revision,
    /// Who asked: an identity, or empty for the system itself.
    pub actor: String,
    /// The client's address, or empty.
    pub client_address: String,
    /// The node that took the request in.
    pub origin: NodeId,
    /// W3C trace context (`traceparent`), or empty.
    pub trace_parent: String,
    /// The cluster that the command is meant for.
    pub cluster: ClusterId,
    /// The cluster's epoch: raised when a cluster is recovered by force.
    pub epoch: u64,
    /// The lowest feature level that can apply it.
    pub feature_level: u32,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first command of all: names the cluster.
    InitCluster {
        /// The cluster.
        cluster: ClusterId,
        /// Its epoch.
        epoch: u64,
    },
    /// Gives a repository access to a blob whose bytes are stored and verified.
    LinkBlob {
        /// The repository; it is created where it does not exist.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Where its bytes come from.
        source: BlobSource,
    },
    /// Puts a manifest and moves tags to it, all or nothing.
    PutManifest(Box<PutManifest>),
    /// Deletes a manifest by digest, with the tags that point to it.
    DeleteManifest {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// Deletes a tag alone.
    DeleteTag {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// Takes a blob's link away from a repository.
    DeleteBlob {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// A region has verified bytes of blobs that it wanted.
    RecordCopies {
        /// The region.
        region: RegionId,
        /// The store that holds them; refused when the region's store was replaced.
        store: StoreId,
        /// At most [`Command::ITEMS_MAX`].
        copies: Vec<CopyItem>,
    },
    /// A region found copies bad or missing. The last copy of a blob is kept and marked as suspect: from then on nothing
    /// says that the blob is there, so that clients upload it again, and an upload in any region replaces the copy.
    DropCopies {
        /// The region.
        region: RegionId,
        /// At most [`Command::ITEMS_MAX`].
        copies: Vec<DropItem>,
    },
    /// Removes entries of the garbage list whose bytes are gone.
    ForgetGarbage {
        /// The region.
        region: RegionId,
        /// The revisions and names as listed; at most [`Command::ITEMS_MAX`].
        objects: Vec<(Revision, ObjectName)>,
    },
    /// Adds a region, or changes nothing where it exists. All that places blobs everywhere is wanted there from now
    /// on: a job with a cursor does the backfill.
    RegisterRegion {
        /// The region.
        region: RegionId,
    },
    /// A node tells who and where it is. Refused when its store is not that of its region.
    RegisterNode(Box<RegisterNode>),
    /// Sets a region's store where it has none, or replaces it: all of its copies are dropped and wanted again.
    SetStore {
        /// The region.
        region: RegionId,
        /// The store.
        store: StoreId,
        /// The store that it replaces; refused when the region has another. `None`: the region has none yet.
        replaces: Option<StoreId>,
    },
    /// Takes or renews the lease of a region's duties.
    AcquireLease {
        /// The region.
        region: RegionId,
        /// Which duty: `replication`, `collection`, ...
        duty: String,
        /// Who asks.
        holder: NodeId,
        /// For how long, in milliseconds of leader time.
        ttl_ms: u64,
    },
    /// Raises a region's sweep epoch, at most once in a day of leader time.
    AdvanceSweep {
        /// The region.
        region: RegionId,
    },
    /// Pauses or resumes a region's fetching.
    SetReplicationPaused {
        /// The region.
        region: RegionId,
        /// True to pause.
        paused: bool,
    },
    /// Does the next bounded step of the oldest replicated job.
    ContinueJob {
        /// The job, by the revision that created it.
        job: Revision,
    },
    /// Condemns links that no manifest ever used, as listed by [`crate::read::idle_links`]; one that has changed since
    /// is left alone.
    CondemnLinks {
        /// At most [`Command::ITEMS_MAX`].
        links: Vec<LinkItem>,
    },
    /// Drops links whose grace period is over, as listed by [`crate::read::idle_links`]; one that was revived, or
    /// condemned anew since, is left alone.
    DropLinks {
        /// At most [`Command::ITEMS_MAX`].
        links: Vec<LinkItem>,
    },
    /// Takes a node off the list and frees its name; its number is never used again.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
}

impl Command {
    /// Most items in one batch, so that a command touches at most about 4,096 keys.
    pub const ITEMS_MAX: usize = 512;
    /// Most references of one manifest.
    pub const REFERENCES_MAX: usize = 2_000;
    /// Most tags in one put.
    pub const TAGS_MAX: usize = 256;
    /// Largest manifest body that travels in the log; a larger one is stored, placed and copied like a blob.
    pub const INLINE_BODY_BYTES_MAX: usize = 32 << 10;
}

/// Where the bytes of a newly linked blob are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobSource {
    /// Uploaded into a region's store; replaces the copy that the region had.
    Uploaded {
        /// The region.
        region: RegionId,
        /// The store that holds it; refused when the region's store was replaced.
        store: StoreId,
        /// The object.
        object: ObjectName,
    },
    /// Linked from another repository, which must still have it live (or revivable).
    Mounted {
        /// The other repository.
        from: RepositoryName,
    },
}

/// A manifest put, with all that apply needs: apply never parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutManifest {
    /// The repository; it is created where it does not exist.
    pub repository: RepositoryName,
    /// The body's digest.
    pub digest: Digest,
    /// The Content-Type it was put with, byte for byte.
    pub media_type: String,
    /// The body.
    pub body: ManifestBody,
    /// Blobs and children that must be there. Never the subject, never non-distributable layers.
    pub references: Vec<ManifestReference>,
    /// The manifest that this one refers to; it need not be there.
    pub subject: Option<Digest>,
    /// As the referrers API shows it: the artifactType, else the config's media type, else empty.
    pub artifact_type: String,
    /// Annotations for the referrers API; only with a subject and a body of at most 32 KiB, `None` otherwise.
    pub annotations: Option<Vec<(String, String)>>,
    /// The tags to move.
    pub tags: Vec<TagUpdate>,
}

/// Where a manifest's body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestBody {
    /// In the log and the state.
    Inline(Bytes),
    /// In a blob of the same digest, already linked to the repository.
    Stored {
        /// Its size in bytes.
        size: u64,
    },
}

impl ManifestBody {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Stored { size } => *size,
        }
    }
}

/// What a manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestReference {
    /// A config, a layer, or a child of an index whose media type is not a manifest's. The size is as the
    /// descriptor states it.
    Blob(Digest, u64),
    /// A child manifest of an index.
    Manifest(Digest),
}

impl ManifestReference {
    /// The digest referred to.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Blob(digest, _) | Self::Manifest(digest) => digest,
        }
    }
}

/// One tag of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagUpdate {
    /// The tag.
    pub tag: Tag,
    /// What it must be before.
    pub expected: Expected,
}

/// A precondition on a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// It must not exist.
    Absent,
    /// It must point to this manifest.
    Digest(Digest),
}

/// A verified copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyItem {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes, as verified.
    pub size: u64,
    /// The object.
    pub object: ObjectName,
}

/// A copy to drop: nothing happens unless the record names this very object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropItem {
    /// The blob.
    pub digest: Digest,
    /// The object.
    pub object: ObjectName,
}

/// A link that nothing uses: nothing happens unless this very change made it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkItem {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// The change that linked it unused, or condemned it.
    pub revision: Revision,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterNode {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its region.
    pub region: RegionId,
    /// What it does.
    pub role: NodeRole,
    /// Where its gRPC listens, `host:port`.
    pub grpc_address: String,
    /// Where its registry listens, `host:port`, for peers that forward to it.
    pub http_address: String,
    /// Where its admin service and metrics listen, `host:port`.
    pub admin_address: String,
    /// Its region's store as it sees it; `None` for a witness.
    pub store: Option<StoreId>,
    /// `fs` or `s3`, empty for a witness. A second `fs` node of a region must prove that it shares the mount.
    pub store_kind: String,
    /// The highest feature level that it can apply.
    pub feature_level: u32,
    /// Its data folder: refused with any other than the one that it registered first, since a node whose folder was
    /// emptied has forgotten its votes. `None` in what was declared or registered without one.
    pub incarnation: Option<Incarnation>,
}

/// What a node does in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Votes, serves.
    Voter,
    /// Serves, has no vote.
    Learner,
    /// Votes, has no store and serves no pulls.
    Witness,
}

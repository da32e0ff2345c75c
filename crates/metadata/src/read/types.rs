//! What reads return.

use atoll_types::{ClusterId, Digest, NodeId, ObjectName, RegionId, Revision, StoreId};

use crate::ManifestBody;

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

impl LinkState {
    /// Whether it is condemned and the second half of its grace period has begun: it may be gone before a push that
    /// counts on it has come to its manifest. Times are leader time, in milliseconds.
    pub const fn is_leaving(self, now_ms: u64, grace_ms: u64) -> bool {
        match self {
            Self::Live => false,
            Self::Condemned { since_ms, .. } => now_ms.saturating_sub(since_ms) >= grace_ms / 2,
        }
    }
}

/// A blob and where its copies are. No copies at all: every region that had one lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its size in bytes.
    pub size: u64,
    /// Where it is, by region.
    pub copies: Vec<(RegionId, ObjectName)>,
    /// True when a reader found the last copy missing or corrupt: what `copies` names is probably of no use. Once a
    /// region has a good copy, the suspect ones are dropped, so that there never are both.
    pub suspect: bool,
}

impl Blob {
    /// Whether a region holds it, as far as is known. Where none does, it must be uploaded again: nothing may tell a
    /// client that it is there.
    pub const fn is_sound(&self) -> bool {
        !self.copies.is_empty() && !self.suspect
    }
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

/// What a region holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Copies in its store.
    pub copies: u64,
    /// Their bytes.
    pub copy_bytes: u64,
    /// Objects whose bytes are to be removed.
    pub garbage: u64,
    /// Their bytes.
    pub garbage_bytes: u64,
}

/// An object whose bytes are to be removed once its grace period is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageItem {
    /// Since which change.
    pub revision: Revision,
    /// The object.
    pub object: ObjectName,
    /// Its size in bytes.
    pub size: u64,
    /// Since when, in leader time.
    pub since_ms: u64,
}

/// Counters over all blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Blobs that some repository links.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that no region holds any more.
    pub lost: u64,
}

/// Counters of a namespace: of the repositories whose names have the same first component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Repositories.
    pub repositories: u64,
    /// Manifests.
    pub manifests: u64,
    /// Links of blobs.
    pub links: u64,
    /// Bytes of inline manifests and of linked blobs; a blob counts once in each repository that links it.
    pub logical_bytes: u64,
}

/// One move or deletion of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMove {
    /// The change.
    pub revision: Revision,
    /// Where it was moved to; `None`: it was deleted.
    pub digest: Option<Digest>,
    /// When, in leader time.
    pub time_ms: u64,
    /// Who did it.
    pub actor: String,
}

/// A lease of a region's duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub holder: NodeId,
    /// Until when, in leader time.
    pub expires_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leaves_in_the_second_half_of_its_grace_period() {
        let condemned = LinkState::Condemned { revision: Revision(7), since_ms: 1_000 };
        for (now_ms, is_leaving) in [(0, false), (1_000, false), (1_049, false), (1_050, true), (u64::MAX, true)] {
            assert_eq!(condemned.is_leaving(now_ms, 100), is_leaving, "{now_ms}");
            assert!(!LinkState::Live.is_leaving(now_ms, 100));
        }
    }
}

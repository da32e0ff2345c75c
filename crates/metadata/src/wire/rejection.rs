//! Rejections: codes and facts, never a text, since what is kept of a request is part of the replicated state.

use atoll_types::{NodeId, Revision};
use prost::Message;

use super::{Decoded, digest, digest_bytes, digest_opt, invalid, missing, parse};
use crate::{NodeConflict, Rejection, TooLarge};

/// One message for all rejections: a code, and the fields that some of them have.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RejectionMessage {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    digests: Vec<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    first: u64,
    #[prost(uint64, tag = "5")]
    second: u64,
    /// Which fact of those that share a code; zero where an older version wrote a text.
    #[prost(uint32, tag = "6")]
    kind: u32,
}

impl RejectionMessage {
    fn code(code: u32) -> Self {
        Self { code, ..Self::default() }
    }

    fn text(code: u32, text: &dyn ToString) -> Self {
        Self { code, text: text.to_string(), ..Self::default() }
    }

    fn digests<'a>(code: u32, digests: impl IntoIterator<Item = &'a atoll_types::Digest>) -> Self {
        Self { code, digests: digests.into_iter().map(atoll_types::Digest::to_bytes).collect(), ..Self::default() }
    }

    fn number(code: u32, first: u64) -> Self {
        Self { code, first, ..Self::default() }
    }

    pub(super) fn of(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::RepositoryUnknown(name) => Self::text(1, name),
            Rejection::ManifestUnknown(digest) => Self::digests(2, [digest]),
            Rejection::TagUnknown(tag) => Self::text(3, tag),
            Rejection::BlobUnknown(digest) => Self::digests(4, [digest]),
            Rejection::BlobsMissing(digests) => Self::digests(5, digests),
            Rejection::ManifestsMissing(digests) => Self::digests(6, digests),
            Rejection::SizeMismatch { digest, stated, actual } => {
                Self { first: *stated, second: *actual, ..Self::digests(7, [digest]) }
            }
            Rejection::TagConflict { tag, found } => {
                Self { digests: vec![digest_bytes(found.as_ref())], ..Self::text(8, tag) }
            }
            Rejection::Referenced { digest, by } => Self::digests(9, [digest, by]),
            Rejection::Expired => Self::code(10),
            Rejection::StaleEpoch => Self::code(11),
            Rejection::StoreMismatch(region) => Self::text(12, region),
            Rejection::RegionUnknown(region) => Self::text(13, region),
            Rejection::WrongCluster => Self::code(14),
            Rejection::FeatureLevel(level) => Self::number(15, u64::from(*level)),
            Rejection::Denied(policy) => Self::text(16, policy),
            Rejection::TooLarge(what) => Self { code: 17, ..Self::too_large(what) },
            Rejection::NodeConflict(why) => Self { code: 18, ..Self::node_conflict(why) },
            Rejection::JobUnknown(job) => Self::number(19, job.0),
            Rejection::RequestReused => Self::code(20),
            Rejection::MediaTypeConflict { digest, found } => {
                Self { text: found.clone(), ..Self::digests(21, [digest]) }
            }
        }
    }

    fn digest_at(&self, index: usize) -> Decoded<atoll_types::Digest> {
        digest(self.digests.get(index).ok_or_else(|| missing("digest"))?)
    }

    fn all_digests(&self) -> Decoded<Vec<atoll_types::Digest>> {
        self.digests.iter().map(|bytes| digest(bytes)).collect()
    }

    pub(super) fn checked(self) -> Decoded<Rejection> {
        Ok(match self.code {
            1 => Rejection::RepositoryUnknown(parse("repository", &self.text)?),
            2 => Rejection::ManifestUnknown(self.digest_at(0)?),
            3 => Rejection::TagUnknown(parse("tag", &self.text)?),
            4 => Rejection::BlobUnknown(self.digest_at(0)?),
            5 => Rejection::BlobsMissing(self.all_digests()?),
            6 => Rejection::ManifestsMissing(self.all_digests()?),
            7 => Rejection::SizeMismatch { digest: self.digest_at(0)?, stated: self.first, actual: self.second },
            8 => Rejection::TagConflict {
                tag: parse("tag", &self.text)?,
                found: digest_opt(self.digests.first().ok_or_else(|| missing("digest"))?)?,
            },
            9 => Rejection::Referenced { digest: self.digest_at(0)?, by: self.digest_at(1)? },
            10 => Rejection::Expired,
            11 => Rejection::StaleEpoch,
            12 => Rejection::StoreMismatch(self.text),
            13 => Rejection::RegionUnknown(self.text),
            14 => Rejection::WrongCluster,
            15 => Rejection::FeatureLevel(u32::try_from(self.first).map_err(|error| invalid("feature level", error))?),
            16 => Rejection::Denied(self.text),
            17 => Rejection::TooLarge(self.checked_too_large()?),
            18 => Rejection::NodeConflict(self.checked_node_conflict()?),
            19 => Rejection::JobUnknown(Revision(self.first)),
            20 => Rejection::RequestReused,
            21 => Rejection::MediaTypeConflict { digest: self.digest_at(0)?, found: self.text },
            other => return Err(invalid("rejection", other)),
        })
    }

    fn too_large(what: &TooLarge) -> Self {
        let (kind, first, second) = match what {
            TooLarge::Told(text) => return Self::text(17, text),
            TooLarge::Items { actual, limit } => (1, *actual, *limit),
            TooLarge::InlineManifest { bytes, limit } => (2, *bytes, *limit),
            TooLarge::Regions { limit } => (3, 0, *limit),
            TooLarge::LeaseTtl { ttl_ms, limit_ms } => (4, *ttl_ms, *limit_ms),
            TooLarge::Duty { bytes, limit } => (5, *bytes, *limit),
        };
        Self { kind, first, second, ..Self::default() }
    }

    fn checked_too_large(self) -> Decoded<TooLarge> {
        let (first, limit) = (self.first, self.second);
        Ok(match self.kind {
            0 => TooLarge::Told(self.text),
            1 => TooLarge::Items { actual: first, limit },
            2 => TooLarge::InlineManifest { bytes: first, limit },
            3 => TooLarge::Regions { limit },
            4 => TooLarge::LeaseTtl { ttl_ms: first, limit_ms: limit },
            5 => TooLarge::Duty { bytes: first, limit },
            other => return Err(invalid("limit", other)),
        })
    }

    fn node_conflict(why: &NodeConflict) -> Self {
        let of = |kind, node: &NodeId, name: &str| Self { kind, first: node.0, text: name.into(), ..Self::default() };
        match why {
            NodeConflict::Told(text) => Self::text(18, text),
            NodeConflict::Full { limit } => Self { kind: 1, second: *limit, ..Self::default() },
            NodeConflict::Removed(node) => of(2, node, ""),
            NodeConflict::NumberTaken { node, name } => of(3, node, name.as_str()),
            NodeConflict::NameTaken { name, node } => of(4, node, name.as_str()),
            NodeConflict::Unknown(node) => of(5, node, ""),
            NodeConflict::OtherFolder { node, name } => of(6, node, name.as_str()),
        }
    }

    fn checked_node_conflict(self) -> Decoded<NodeConflict> {
        let node = NodeId(self.first);
        Ok(match self.kind {
            0 => NodeConflict::Told(self.text),
            1 => NodeConflict::Full { limit: self.second },
            2 => NodeConflict::Removed(node),
            3 => NodeConflict::NumberTaken { node, name: parse("node name", &self.text)? },
            4 => NodeConflict::NameTaken { name: parse("node name", &self.text)?, node },
            5 => NodeConflict::Unknown(node),
            6 => NodeConflict::OtherFolder { node, name: parse("node name", &self.text)? },
            other => return Err(invalid("conflict of nodes", other)),
        })
    }
}

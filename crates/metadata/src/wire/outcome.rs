//! Outcomes.

use atoll_types::{NodeId, Revision};
use prost::{Message, Oneof};

use super::{Decoded, InvalidEntry, digest, digest_bytes, digest_opt, invalid, message, missing, parse};
use crate::{Applied, CopyOutcome, Done, Outcome, Rejection};

#[derive(Clone, PartialEq, Message)]
struct AppliedMessage {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    outcome: Option<OutcomeMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct OutcomeMessage {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 20")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(bool, tag = "1")]
    Empty(bool),
    #[prost(bool, tag = "2")]
    Linked(bool),
    /// Whether it was created.
    #[prost(bool, tag = "3")]
    ManifestPut(bool),
    /// Whether it continues.
    #[prost(bool, tag = "4")]
    Deleted(bool),
    /// A code for each item.
    #[prost(bytes = "vec", tag = "5")]
    Copies(Vec<u8>),
    #[prost(message, tag = "6")]
    Lease(LeaseMessage),
    #[prost(uint64, tag = "7")]
    SweepEpoch(u64),
    /// Whether it is finished.
    #[prost(bool, tag = "8")]
    Job(bool),
    #[prost(message, tag = "20")]
    Rejected(RejectionMessage),
}

#[derive(Clone, PartialEq, Message)]
struct LeaseMessage {
    #[prost(bool, tag = "1")]
    granted: bool,
    #[prost(uint64, tag = "2")]
    holder: u64,
    #[prost(uint64, tag = "3")]
    expires_ms: u64,
    #[prost(uint64, tag = "4")]
    now_ms: u64,
}

/// One message for all rejections: a code, and the fields that some of them have.
#[derive(Clone, PartialEq, Message)]
struct RejectionMessage {
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
}

impl Outcome {
    /// As bytes, for the answer to a forwarded write and for the state.
    pub fn encode(&self) -> Vec<u8> {
        OutcomeMessage::of(self).encode_to_vec()
    }

    /// The inverse of [`Outcome::encode`]; checks everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        message::<OutcomeMessage>("outcome", bytes)?.checked()
    }
}

impl Applied {
    /// As bytes, for the answer to a forwarded write.
    pub fn encode(&self) -> Vec<u8> {
        AppliedMessage { revision: self.revision.0, outcome: Some(OutcomeMessage::of(&self.outcome)) }.encode_to_vec()
    }

    /// The inverse of [`Applied::encode`]; checks everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        let applied = message::<AppliedMessage>("applied", bytes)?;
        let outcome = applied.outcome.ok_or_else(|| missing("outcome"))?.checked()?;
        Ok(Self { revision: Revision(applied.revision), outcome })
    }
}

impl OutcomeMessage {
    fn of(outcome: &Outcome) -> Self {
        let kind = match outcome {
            Outcome::Done(Done::Empty) => Kind::Empty(true),
            Outcome::Done(Done::Linked) => Kind::Linked(true),
            Outcome::Done(Done::ManifestPut { created }) => Kind::ManifestPut(*created),
            Outcome::Done(Done::Deleted { continues }) => Kind::Deleted(*continues),
            Outcome::Done(Done::Copies(copies)) => Kind::Copies(copies.iter().map(|c| copy_code(*c)).collect()),
            Outcome::Done(Done::Lease { granted, holder, expires_ms, now_ms }) => Kind::Lease(LeaseMessage {
                granted: *granted,
                holder: holder.0,
                expires_ms: *expires_ms,
                now_ms: *now_ms,
            }),
            Outcome::Done(Done::SweepEpoch(epoch)) => Kind::SweepEpoch(*epoch),
            Outcome::Done(Done::Job { finished }) => Kind::Job(*finished),
            Outcome::Rejected(rejection) => Kind::Rejected(RejectionMessage::of(rejection)),
        };
        Self { kind: Some(kind) }
    }

    fn checked(self) -> Decoded<Outcome> {
        Ok(Outcome::Done(match self.kind.ok_or_else(|| missing("outcome"))? {
            Kind::Empty(_) => Done::Empty,
            Kind::Linked(_) => Done::Linked,
            Kind::ManifestPut(created) => Done::ManifestPut { created },
            Kind::Deleted(continues) => Done::Deleted { continues },
            Kind::Copies(codes) => Done::Copies(codes.into_iter().map(copy_of).collect::<Decoded<_>>()?),
            Kind::Lease(l) => {
                Done::Lease { granted: l.granted, holder: NodeId(l.holder), expires_ms: l.expires_ms, now_ms: l.now_ms }
            }
            Kind::SweepEpoch(epoch) => Done::SweepEpoch(epoch),
            Kind::Job(finished) => Done::Job { finished },
            Kind::Rejected(rejection) => return Ok(Outcome::Rejected(rejection.checked()?)),
        }))
    }
}

const fn copy_code(outcome: CopyOutcome) -> u8 {
    match outcome {
        CopyOutcome::Done => 1,
        CopyOutcome::Already => 2,
        CopyOutcome::NotWanted => 3,
        CopyOutcome::StaleEpoch => 4,
        CopyOutcome::SizeMismatch => 5,
        CopyOutcome::LastCopy => 6,
    }
}

fn copy_of(code: u8) -> Decoded<CopyOutcome> {
    Ok(match code {
        1 => CopyOutcome::Done,
        2 => CopyOutcome::Already,
        3 => CopyOutcome::NotWanted,
        4 => CopyOutcome::StaleEpoch,
        5 => CopyOutcome::SizeMismatch,
        6 => CopyOutcome::LastCopy,
        other => return Err(invalid("outcome of a copy", other)),
    })
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

    fn of(rejection: &Rejection) -> Self {
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
            Rejection::Denied(why) => Self::text(16, why),
            Rejection::TooLarge(why) => Self::text(17, why),
            Rejection::NodeConflict(why) => Self::text(18, why),
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

    fn checked(self) -> Decoded<Rejection> {
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
            17 => Rejection::TooLarge(self.text),
            18 => Rejection::NodeConflict(self.text),
            19 => Rejection::JobUnknown(Revision(self.first)),
            20 => Rejection::RequestReused,
            21 => Rejection::MediaTypeConflict { digest: self.digest_at(0)?, found: self.text },
            other => return Err(invalid("rejection", other)),
        })
    }
}

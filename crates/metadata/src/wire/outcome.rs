//! Outcomes.

use atoll_types::{NodeId, Revision};
use prost::{Message, Oneof};

use super::rejection::RejectionMessage;
use super::{Decoded, InvalidEntry, invalid, message, missing};
use crate::{Applied, CopyOutcome, Done, Outcome};

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

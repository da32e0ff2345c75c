//! An entry of the log, and the envelope.

use atoll_types::{NodeId, Revision};
use prost::Message;

use super::{Decoded, InvalidEntry, cluster, message, missing, request, text};
use crate::{Command, Entry, Envelope};

/// Bounds of the envelope's texts, in bytes.
const TEXT_BYTES_MAX: usize = 512;

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(uint64, tag = "1")]
    time_ms: u64,
    #[prost(message, optional, tag = "2")]
    envelope: Option<EnvelopeMessage>,
    #[prost(message, optional, tag = "3")]
    command: Option<super::command::CommandMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvelopeMessage {
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(uint32, tag = "2")]
    attempt: u32,
    #[prost(uint64, tag = "3")]
    seen: u64,
    #[prost(string, tag = "4")]
    actor: String,
    #[prost(string, tag = "5")]
    client_address: String,
    #[prost(uint64, tag = "6")]
    origin: u64,
    #[prost(string, tag = "7")]
    trace_parent: String,
    #[prost(bytes = "vec", tag = "8")]
    cluster: Vec<u8>,
    #[prost(uint64, tag = "9")]
    epoch: u64,
    #[prost(uint32, tag = "10")]
    feature_level: u32,
}

impl EnvelopeMessage {
    fn of(envelope: &Envelope) -> Self {
        Self {
            request: envelope.request.as_bytes().to_vec(),
            attempt: envelope.attempt,
            seen: envelope.seen.0,
            actor: envelope.actor.clone(),
            client_address: envelope.client_address.clone(),
            origin: envelope.origin.0,
            trace_parent: envelope.trace_parent.clone(),
            cluster: envelope.cluster.as_bytes().to_vec(),
            epoch: envelope.epoch,
            feature_level: envelope.feature_level,
        }
    }

    fn checked(self) -> Decoded<Envelope> {
        Ok(Envelope {
            request: request(&self.request)?,
            attempt: self.attempt,
            seen: Revision(self.seen),
            actor: text("actor", self.actor, TEXT_BYTES_MAX)?,
            client_address: text("client address", self.client_address, TEXT_BYTES_MAX)?,
            origin: NodeId(self.origin),
            trace_parent: text("trace parent", self.trace_parent, TEXT_BYTES_MAX)?,
            cluster: cluster(&self.cluster)?,
            epoch: self.epoch,
            feature_level: self.feature_level,
        })
    }
}

impl Envelope {
    /// As bytes, for a write that is forwarded to the leader.
    pub fn encode(&self) -> Vec<u8> {
        EnvelopeMessage::of(self).encode_to_vec()
    }

    /// The inverse of [`Envelope::encode`]; checks everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        message::<EnvelopeMessage>("envelope", bytes)?.checked()
    }
}

impl Entry {
    /// As bytes, for the log.
    pub fn encode(&self) -> Vec<u8> {
        EntryMessage {
            time_ms: self.time_ms,
            envelope: Some(EnvelopeMessage::of(&self.envelope)),
            command: Some(super::command::CommandMessage::of(&self.command)),
        }
        .encode_to_vec()
    }

    /// The inverse of [`Entry::encode`]; checks everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        let entry = message::<EntryMessage>("entry", bytes)?;
        Ok(Self {
            time_ms: entry.time_ms,
            envelope: entry.envelope.ok_or_else(|| missing("envelope"))?.checked()?,
            command: Command::of(entry.command.ok_or_else(|| missing("command"))?)?,
        })
    }
}

//! Entries, commands and outcomes as bytes: in the Raft log, between nodes, and in what is kept of a request.
//!
//! Written by hand as prost messages with explicit tags. What has landed only grows: a tag keeps its meaning for ever.
//! Decoding trusts nothing: every name, digest and bound is checked, and no input makes it panic.

mod command;
mod entry;
mod manifest;
mod node;
mod outcome;
mod rejection;
#[cfg(test)]
mod tests;

pub(crate) use manifest::{AnnotationsMessage, ReferenceMessage};
pub(crate) use node::NodeMessage;

use std::str::FromStr;

use atoll_types::{ClusterId, Digest, Incarnation, ObjectName, RequestId, StoreId};
use prost::Message;

/// Longest address or duty, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// Why bytes are not what they should be. A log that holds such an entry was written by a newer version, or is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {why}")]
pub struct InvalidEntry {
    what: &'static str,
    why: String,
}

type Decoded<T> = Result<T, InvalidEntry>;

fn invalid(what: &'static str, why: impl ToString) -> InvalidEntry {
    InvalidEntry { what, why: why.to_string() }
}

fn missing(what: &'static str) -> InvalidEntry {
    invalid(what, "missing, or of a kind that this version does not know")
}

fn message<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Decoded<M> {
    M::decode(bytes).map_err(|error| invalid(what, error))
}

fn parse<T: FromStr<Err: ToString>>(what: &'static str, text: &str) -> Decoded<T> {
    text.parse().map_err(|error: T::Err| invalid(what, error))
}

fn digest(bytes: &[u8]) -> Decoded<Digest> {
    Digest::from_bytes(bytes).ok_or_else(|| invalid("digest", "an algorithm's code and its hash are expected"))
}

fn digest_opt(bytes: &[u8]) -> Decoded<Option<Digest>> {
    if bytes.is_empty() { Ok(None) } else { digest(bytes).map(Some) }
}

fn digest_bytes(digest: Option<&Digest>) -> Vec<u8> {
    digest.map(Digest::to_bytes).unwrap_or_default()
}

fn cluster(bytes: &[u8]) -> Decoded<ClusterId> {
    ClusterId::from_slice(bytes).ok_or_else(|| invalid("cluster id", "16 bytes are expected"))
}

fn store(bytes: &[u8]) -> Decoded<StoreId> {
    StoreId::from_slice(bytes).ok_or_else(|| invalid("store id", "16 bytes are expected"))
}

fn store_opt(bytes: &[u8]) -> Decoded<Option<StoreId>> {
    if bytes.is_empty() { Ok(None) } else { store(bytes).map(Some) }
}

fn incarnation_opt(bytes: &[u8]) -> Decoded<Option<Incarnation>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Incarnation::from_slice(bytes).map(Some).ok_or_else(|| invalid("incarnation", "16 bytes are expected"))
}

fn request(bytes: &[u8]) -> Decoded<RequestId> {
    RequestId::from_slice(bytes).ok_or_else(|| invalid("request id", "16 bytes are expected"))
}

/// An object's name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Object {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(bytes = "vec", tag = "2")]
    random: Vec<u8>,
}

impl Object {
    pub(crate) fn of(name: &ObjectName) -> Option<Self> {
        Some(Self { epoch: name.epoch(), random: name.random_bits().to_vec() })
    }

    pub(crate) fn name(message: Option<&Self>) -> Decoded<ObjectName> {
        let message = message.ok_or_else(|| missing("object name"))?;
        let random: [u8; 16] =
            message.random.as_slice().try_into().map_err(|_| invalid("object name", "16 random bytes are expected"))?;
        Ok(ObjectName::from_parts(message.epoch, random))
    }
}

fn at_most<T>(what: &'static str, items: &[T], max: usize) -> Decoded<()> {
    if items.len() <= max {
        Ok(())
    } else {
        Err(invalid(what, format!("{} items, at most {max} are allowed", items.len())))
    }
}

/// Text from outside that is kept or shown: bounded.
fn text(what: &'static str, text: String, bytes_max: usize) -> Decoded<String> {
    if text.len() <= bytes_max {
        Ok(text)
    } else {
        Err(invalid(what, format!("{} bytes, at most {bytes_max} are allowed", text.len())))
    }
}

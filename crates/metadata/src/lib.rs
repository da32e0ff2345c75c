//! The replicated state machine: a [`Command`] in, an [`Outcome`] out, over a small ordered key-value trait.
//!
//! Architecture invariant: pure and deterministic. No tokio, no clock, no randomness, no network, no RocksDB. The same
//! code runs under property tests, in simulation and in production, and two nodes that apply the same entries hold the
//! same bytes.

mod command;
mod kv;
mod outcome;
pub mod read;

pub use command::{
    BlobSource, Command, CopyItem, DropItem, Entry, Envelope, Expected, ManifestBody, ManifestReference, NodeRole,
    PutManifest, RegisterNode, TagUpdate,
};
pub use kv::{Family, Kv, KvError, KvRead};
pub use outcome::{CopyOutcome, Done, Outcome, Rejection};

//! The replicated state machine: a [`Command`] in, an [`Outcome`] out, over a small ordered key-value trait.
//!
//! Architecture invariant: pure and deterministic. No tokio, no clock, no randomness, no network, no RocksDB. The same
//! code runs under property tests, in simulation and in production, and two nodes that apply the same entries hold the
//! same bytes.

mod apply;
mod command;
mod hash;
mod keys;
mod kv;
mod memory;
mod outcome;
mod overlay;
mod policy;
pub mod read;
mod refusal;
mod wire;

pub use apply::apply;
#[cfg(feature = "checks")]
pub use apply::invariants::check as check_invariants;
#[cfg(feature = "checks")]
pub use keys::checks as raw_keys;

pub use command::{
    BlobSource, Command, CopyItem, DropItem, Entry, Envelope, Expected, LinkItem, ManifestBody, ManifestReference,
    NodeRole, PutManifest, RegisterNode, TagUpdate,
};
pub use hash::{hash_of_all, hash_of_pair};
pub use kv::{Family, Kv, KvError, KvRead, Pair};
pub use memory::MemoryKv;
pub use outcome::{Applied, CopyOutcome, Done, Outcome, Rejection};
pub use overlay::{Changes, Overlay};
pub use refusal::{NodeConflict, TooLarge};
pub use wire::InvalidEntry;

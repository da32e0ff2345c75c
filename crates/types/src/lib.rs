//! The words of Atoll as types: what a string must satisfy is checked once, where it enters, and holds from then on.
//!
//! Architecture invariant: no async, no I/O, no clock. Everything else may know this crate; it knows nothing of Atoll.

mod digest;
mod id;
mod name;
mod object;
mod reference;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use id::{ClusterId, Incarnation, InvalidId, NodeId, NodeName, RegionId, RequestId, Revision, StoreId};
pub use name::{InvalidName, RepositoryName};
pub use object::{InvalidObjectName, ObjectName};
pub use reference::{InvalidReference, Reference, Tag};

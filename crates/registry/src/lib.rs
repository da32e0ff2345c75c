//! The use cases of a registry: pull, push, mount, delete, list, over ports that this crate owns.
//!
//! Architecture invariant: knows neither HTTP nor gRPC nor Raft. Whoever calls it holds an `Access`; whoever implements
//! its ports decides how metadata and bytes travel.

mod answers;
mod as_of;
mod blob_reader;
mod blobs;
mod error;
mod lists;
mod manifests;
mod options;
mod planted;
mod ports;
mod registry;
mod room;
mod suspects;
mod upload;
mod view;

pub use answers::{
    BlobHandle, Linked, ManifestAnswer, ManifestBytes, ManifestHead, Page, PutAnswer, Referrer, ReferrersPage,
};
pub use as_of::{AsOf, as_of};
pub use error::RegistryError;
pub use manifests::PutTarget;
pub use options::{Consistency, ReadOptions, RegistryConfig, WriteOptions};
pub use ports::{
    Applied, BarrierError, Freshness, MetadataGroup, MetadataGroupExt, Mode, Proposal, ProposeError, ReadThrough,
    ReadThroughError,
};
pub use registry::Registry;
pub use room::{NoRoom, Room, Spare, Spares};
pub use upload::{Body, InvalidSessionId, Owner, SessionId, UploadStatus};

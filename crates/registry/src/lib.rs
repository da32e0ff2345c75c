//! The use cases of a registry: pull, push, mount, delete, list, over ports that this crate owns.
//!
//! Architecture invariant: knows neither HTTP nor gRPC nor Raft. Whoever calls it holds an `Access`; whoever implements
//! its ports decides how metadata and bytes travel.

mod error;
mod ports;

pub use error::RegistryError;
pub use ports::{
    Applied, BarrierError, Freshness, MetadataGroup, MetadataGroupExt, Mode, Proposal, ProposeError, ReadThrough,
    ReadThroughError,
};

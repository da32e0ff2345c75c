//! The group's gRPC services.

mod metadata;
mod raft;

pub(crate) use metadata::MetadataService;
pub(crate) use raft::{RaftService, Receiving};

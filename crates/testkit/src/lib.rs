//! Parts for tests: of those that run the real code in one process, without Raft, a network or a disk; and real S3
//! servers.

mod local_group;
mod other_regions;
pub mod s3_server;

pub use local_group::{LocalGroup, LocalNode, NextProposal};
pub use other_regions::OtherRegions;

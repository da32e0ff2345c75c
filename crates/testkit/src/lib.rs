//! Parts for tests that run the real code in one process, without Raft, a network or a disk.

mod local_group;
mod other_regions;

pub use local_group::{LocalGroup, LocalNode, NextProposal};
pub use other_regions::OtherRegions;

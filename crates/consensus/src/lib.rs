//! The metadata group: one Raft group over all regions.
//!
//! [`Group::start`] takes a data folder and yields a handle that proposes, reads, and tells how current the node is,
//! and the gRPC services that its peers call.
//!
//! Architecture invariant: nobody outside this crate sees openraft.

mod barrier;
mod batcher;
mod clock;
mod error;
mod fence;
#[cfg(test)]
mod golden;
mod group;
mod leader;
mod leadership;
mod network;
mod options;
mod planted;
mod propose;
mod pulse;
mod raft;
mod service;
mod status;
mod upkeep;

pub use clock::{Clock, SystemClock};
pub use error::{BarrierError, GroupError, ProposeError};
pub use fence::lost_folder;
pub use group::Group;
pub use network::grpc_server;
pub use options::{GroupOptions, Member, OnFatal, Retention, Timing};
pub use propose::Proposal;
pub use pulse::{Freshness, Mode};
pub use status::NodeStatus;

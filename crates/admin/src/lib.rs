//! The admin gRPC service: what operators and the command line ask of a node.
//!
//! Architecture invariant: answers also when the node is cut off; what it cannot know is left out, never guessed.

mod check;
mod ports;
mod service;
mod status;

pub use ports::{InitializeError, NodeReport, Nodes, StateProof};
pub use service::AdminService;

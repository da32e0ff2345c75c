//! Calls to peers.

mod client;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod golden_tests;
mod identity;
mod log_stream;
pub(crate) mod messages;
mod peers;
mod snapshot;

pub(crate) use client::Network;
pub(crate) use identity::{Callee, knows_callee};
pub use peers::grpc_server;
pub(crate) use peers::{Lane, Peers};

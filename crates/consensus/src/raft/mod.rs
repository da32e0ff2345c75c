//! openraft's traits over the storage. Nothing outside this crate sees openraft.

mod blocking;
pub(crate) mod codec;
mod config;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod golden_tests;
mod log;
#[cfg(test)]
mod log_tests;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod types;

pub(crate) use blocking::blocking;
pub(crate) use config::raft_config;
pub(crate) use log::{Log, PurgeGuard};
pub(crate) use state::{StateMachine, describe};
pub(crate) use types::{Raft, Types};

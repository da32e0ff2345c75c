//! The OCI distribution API over HTTP/1.1 and HTTP/2.
//!
//! Architecture invariant: nothing is decided here that a use case could decide. This crate turns requests into calls
//! of `registry`, and what comes back into answers; the one place that knows statuses and OCI codes is `error`.

mod activity;
mod app;
mod attended;
mod body;
mod conditional;
mod config;
mod error;
mod forward;
mod handlers;
mod head;
pub mod headers;
mod held;
mod ports;
mod query;
mod range;
mod route;
mod server;
mod sniff;
mod stack;
mod stall;
mod streams;

pub use app::App;
pub use config::{HttpConfig, RequestLimits};
use error::ApiError;
pub use ports::{Health, PeerDirectory, Readiness};
pub use server::{Peer, ServerLimits, serve};
pub use stack::router;

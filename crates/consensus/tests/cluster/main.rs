//! Whole groups in one process, over real gRPC and real stores.

#![allow(clippy::expect_used, clippy::panic)]

mod harness;
mod way;

mod cutoff;
mod identity;
mod lead;
mod leadership;
mod reads;
mod reverted;
mod snapshots;
mod time;
mod writes;

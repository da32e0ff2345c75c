//! Tests of whole processes: real nodes under `atoll dev`, on ports and a data folder of their own, looked at from
//! outside. One binary, so that the nodes' code is linked once.
// A test may fail by panicking, in what it shares with others too.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod clients;
mod cluster;
mod dev;
mod disk;
mod harness;
mod lost_folder;
mod modes;
mod oci;
mod refusals;
mod regions;
mod survival;

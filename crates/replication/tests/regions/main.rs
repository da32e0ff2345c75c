//! Several regions in one process: the real state machine, real stores on disk, real gRPC over loopback through links
//! that count bytes and can be cut.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod group;
mod impostor;
mod link;
mod world;

mod direct;
mod fetching;
mod reading;
mod serving;

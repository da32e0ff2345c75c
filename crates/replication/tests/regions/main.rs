//! Several regions in one process: the real state machine, real stores on disk, real gRPC over loopback through links
//! that count bytes and can be cut.

mod group;
mod impostor;
mod link;
mod world;

mod fetching;
mod reading;

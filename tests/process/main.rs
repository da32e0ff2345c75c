//! Tests of whole processes: real nodes under `atoll dev`, on ports and a data folder of their own, looked at from
//! outside. One binary, so that the nodes' code is linked once.

mod dev;
mod harness;

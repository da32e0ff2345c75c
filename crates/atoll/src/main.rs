//! Atoll: an OCI container registry that spans regions as one.
#![allow(dead_code, unused_imports)] // Until the composition root lands.

mod config;
mod node;

fn main() {
    std::process::exit(1);
}

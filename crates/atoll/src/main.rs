//! Atoll: an OCI container registry that spans regions as one.

mod cli;
mod config;
mod dev;
mod node;

use std::process::ExitCode;

/// Rows that are kept for long lie between much that is freed at once: glibc's allocator searches its lists for ever longer
/// then, up to a third of a node's time at a million tags.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}

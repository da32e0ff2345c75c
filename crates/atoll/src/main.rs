//! Atoll: an OCI container registry that spans regions as one.

mod cli;
mod config;
mod dev;
mod node;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

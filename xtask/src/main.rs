//! `cargo xtask`: what is done from a checkout. Knows no other crate here, so that it is built in seconds.

mod arrows;
mod bench;
mod chaos;
mod dev;
mod fuzz;
mod prerequisites;
mod sim;
mod stages;
mod tools;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask dev [ARGS]     a whole cluster on this machine: installs what is missing, builds, runs `atoll dev ARGS`
cargo xtask test [ARGS]    all checks and tests; ARGS go to `cargo test`
cargo xtask fuzz [TARGET..] [--seconds 600]
                           the fuzz targets of fuzz/, each for a while; the corpus is kept and minimised
cargo xtask bench [ARGS]   Atoll beside its peers under load: installs what is missing, builds with --release, measures
cargo xtask chaos RUN      real nodes under faults, and what must always hold; `chaos list` names the runs
cargo xtask sim [--seeds N] [--from S] [--jobs J]
                           whole nodes on virtual time, a seed each; 1: an invariant is violated, 3: a fault never fired
cargo xtask check-deps     fails when a crate knows one that docs/architecture.md forbids";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next();
    let rest: Vec<OsString> = arguments.collect();
    let outcome = match command.as_ref().and_then(|c| c.to_str()) {
        Some("dev") => dev::run(&rest),
        Some("test") => stages::test(&rest),
        Some("fuzz") => fuzz::run(&rest),
        Some("bench") => bench::run(&rest),
        Some("chaos") => chaos::run(&rest),
        Some("sim") => sim::run(&rest),
        Some("check-deps") => arrows::check(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! Whole nodes in one process, on virtual time, under a seed: the real state machine, use cases and replication over a
//! simulated log, network, disk and object store. See `docs/chaos-sim.md`.

mod batch;
mod checkers;
mod client;
mod content;
mod dice;
mod disk;
mod faults;
mod history;
mod judge;
mod log;
mod net;
mod node;
mod plant;
mod report;
mod run;
mod trace;
mod weather;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Seeded simulation of whole Atoll nodes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds: 1 when one violates an invariant, 3 when a fault never fired.
    Run {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many at once.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Runs one seed and prints what it came to, as JSON.
    Seed {
        /// Which.
        seed: u64,
        /// Print everything that happened instead.
        #[arg(long)]
        trace: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { seeds, from, jobs } => batch::run(from, seeds, jobs),
        Command::Seed { seed, trace } => one(seed, trace),
    };
    done.map_or_else(
        |error| {
            eprintln!("atoll-sim: {error:#}");
            ExitCode::from(2)
        },
        ExitCode::from,
    )
}

fn one(seed: u64, trace: bool) -> anyhow::Result<u8> {
    if std::env::var(batch::SEED_VARIABLE).as_ref() != Ok(&seed.to_string()) {
        // Started by hand: once more, drawing from the seed.
        let status = batch::seeded(seed, if trace { &["--trace"] } else { &[] }).status()?;
        return Ok(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2));
    }
    // Also where nothing is logged, so that the same is drawn from the seed.
    let filter = std::env::var("ATOLL_LOG").unwrap_or_else(|_| "off".to_owned());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let (outcome, lines) = run::run(seed, trace)?;
    if trace {
        lines.iter().for_each(|line| println!("{line}"));
    } else {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(u8::from(!outcome.findings.violations.is_empty()))
}

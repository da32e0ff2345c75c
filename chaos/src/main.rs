//! Chaos: real nodes under faults, clients that write down what they see, and checkers of what must always hold.
//!
//! Exit codes: 0 green, 1 an invariant was violated, 2 the harness failed, 3 invalid: the plan was not met.

mod checkers;
mod client;
mod cluster;
mod content;
mod failpoints;
mod faults;
mod history;
mod link;
mod planted;
mod rest;
mod runs;
mod simulation;
mod stores;
mod wait;
mod watch;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;

use runs::{RUNS, Request, Run, Verdict};

/// Real nodes under faults
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// The run; `all` is the whole matrix, `list` prints it, `planted` tries the planted bugs
    run: String,
    /// Only these planted bugs, or the failpoints that begin so
    names: Vec<String>,
    /// How many rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// What decides all random choices
    #[arg(long)]
    seed: Option<u64>,
    /// Clients that are at work at once
    #[arg(long, default_value_t = 10)]
    clients: usize,
    /// The program under test
    #[arg(long, env = "ATOLL_CHAOS_BINARY", default_value = "target/debug/atoll")]
    atoll: PathBuf,
    /// The same with planted bugs
    #[arg(long, env = "ATOLL_CHAOS_PLANTED_BINARY", default_value = "target/planted/debug/atoll")]
    planted_atoll: PathBuf,
    /// Where evidence of violations is kept
    #[arg(long, default_value = "target/chaos")]
    evidence: PathBuf,
    /// The checkout that names failpoints and planted bugs
    #[arg(long, default_value = ".")]
    sources: PathBuf,
    /// Go on after a round that violated something
    #[arg(long)]
    keep_going: bool,
}

/// Seeds of the simulation in the whole matrix: enough that each of its faults fires.
const SIMULATED_SEEDS: u64 = 500;
const VIOLATED: u8 = 1;
const HARNESS_FAILED: u8 = 2;
const INVALID: u8 = 3;

fn main() -> ExitCode {
    match chaos(&Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("chaos: the harness failed, which proves nothing: {error:#}");
            ExitCode::from(HARNESS_FAILED)
        }
    }
}

fn chaos(arguments: &Arguments) -> anyhow::Result<u8> {
    match arguments.run.as_str() {
        "list" => list(),
        "planted" => planted_bugs(arguments),
        "all" => all(arguments),
        name => {
            let run = runs::find(name).with_context(|| format!("there is no run {name:?}; `list` names them"))?;
            Ok(told(run, &runs::run(run, &request(arguments)?)?))
        }
    }
}

fn list() -> anyhow::Result<u8> {
    RUNS.iter().for_each(|run| println!("{:11} {}", run.name, run.about));
    checkers::CHECKERS.iter().for_each(|c| println!("{:11} {}", c.invariant, c.about));
    Ok(0)
}

fn request(arguments: &Arguments) -> anyhow::Result<Request> {
    let absolute =
        |path: &PathBuf| std::path::absolute(path).with_context(|| format!("no such path: {}", path.display()));
    let binary = absolute(&arguments.atoll)?;
    if !binary.is_file() {
        bail!("{} is not there; build it, or name another with --atoll", binary.display());
    }
    Ok(Request {
        binary,
        rounds: arguments.rounds,
        seed: arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000)),
        clients: arguments.clients,
        evidence: absolute(&arguments.evidence)?,
        sources: absolute(&arguments.sources)?,
        environment: Vec::new(),
        environment_of_one: Vec::new(),
        failpoint: arguments.names.first().filter(|_| arguments.run == "failpoints").cloned(),
        until: Vec::new(),
        keep_going: arguments.keep_going,
    })
}

/// The whole matrix, the simulation included; the worst of all.
fn all(arguments: &Arguments) -> anyhow::Result<u8> {
    let request = request(arguments)?;
    let mut worst = 0;
    let mut lines = Vec::new();
    for run in &RUNS {
        let code = match runs::run(run, &request) {
            Ok(verdict) => told(run, &verdict),
            Err(error) => {
                eprintln!("chaos: {}: the harness failed: {error:#}", run.name);
                HARNESS_FAILED
            }
        };
        lines.push(format!("{:11} {}", run.name, word(code)));
        worst = worse(worst, code);
    }
    let code = simulated(request.seed)?;
    lines.push(format!("{:11} {}", "simulation", word(code)));
    worst = worse(worst, code);
    println!("{}", lines.join("\n"));
    Ok(worst)
}

fn worse(a: u8, b: u8) -> u8 {
    if a == VIOLATED || b == VIOLATED { VIOLATED } else { a.max(b) }
}

/// What no process meets here: object stores that err, hang and lie, and messages that are lost.
fn simulated(seed: u64) -> anyhow::Result<u8> {
    println!("== simulation, {SIMULATED_SEEDS} seeds");
    let from = 1 + seed % 1_000 * SIMULATED_SEEDS;
    let mut command = simulation::of(from, SIMULATED_SEEDS, None)?;
    let status = command.status().with_context(|| format!("cannot run {command:?}; build it"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(HARNESS_FAILED))
}

const fn word(code: u8) -> &'static str {
    match code {
        0 => "green",
        VIOLATED => "VIOLATED",
        INVALID => "INVALID",
        _ => "the harness failed",
    }
}

fn told(run: &Run, verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Green => {
            println!("{}: green", run.name);
            0
        }
        Verdict::Invalid(short) => {
            println!("{}: INVALID, the plan was not met:\n  {}", run.name, short.join("\n  "));
            INVALID
        }
        Verdict::Violated(violations) => {
            let mut invariants: Vec<&str> = violations.iter().map(|v| v.invariant).collect();
            invariants.sort_unstable();
            invariants.dedup();
            println!("{}: VIOLATED: {}", run.name, invariants.join(", "));
            VIOLATED
        }
    }
}

fn planted_bugs(arguments: &Arguments) -> anyhow::Result<u8> {
    let request = request(arguments)?;
    let mut corpus = planted::corpus(&request.sources)?;
    if !arguments.names.is_empty() {
        corpus.retain(|p| arguments.names.contains(&p.name));
    }
    if corpus.is_empty() {
        bail!("no planted bug is to be tried: the corpus is empty, or names none of {:?}", arguments.names);
    }
    let binary = std::path::absolute(&arguments.planted_atoll)?;
    if !binary.is_file() {
        bail!("{} is not there; build it with --features planted", binary.display());
    }
    let missed = planted::run(&corpus, &binary, &request);
    println!("{} planted bugs, {} missed", corpus.len(), missed.len());
    missed.iter().for_each(|m| println!("  {m}"));
    Ok(if missed.is_empty() { 0 } else { VIOLATED })
}

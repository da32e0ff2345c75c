//! Many seeds, each in a process of its own: nothing is left of one for the next, so that any can be run again alone.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::judge::Findings;
use crate::report;
use crate::run::Outcome;

/// The environment variable by which a process is told to draw from a seed (`seed.c`).
pub(crate) const SEED_VARIABLE: &str = "ATOLL_SIM_SEED";
/// Every so many seeds, one is run twice and must do the same.
const TWICE_EVERY: u64 = 50;
/// Longest time for one seed.
const SEED_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Last lines of the trace of a seed that failed.
const TRACE_LINES: usize = 60;

/// All seeds of a batch together.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) seeds: u64,
    pub(crate) repeated: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) time: Duration,
    pub(crate) findings: Findings,
    /// Seeds in which a history was too tangled to be searched.
    pub(crate) undecided: u64,
    /// By seed; the first is told in full.
    pub(crate) failed: BTreeMap<u64, Vec<String>>,
}

/// Runs seeds; the exit code.
pub(crate) fn run(from: u64, seeds: u64, jobs: usize) -> anyhow::Result<u8> {
    let (mut batch, start) = (Batch::default(), Instant::now());
    let (mut next, end) = (from, from + seeds);
    let (mut running, mut told) = (Vec::<(u64, Started)>::new(), Instant::now());
    while next < end || !running.is_empty() {
        while next < end && running.len() < jobs.max(1) {
            running.push((next, Started::new(next)?));
            next += 1;
        }
        let mut left = Vec::new();
        for (seed, mut started) in running {
            match started.ended()? {
                Some(outcome) => batch.add(seed, outcome, seed % TWICE_EVERY == 0)?,
                None => left.push((seed, started)),
            }
        }
        running = left;
        std::thread::sleep(POLL);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let rate = batch.seeds as f64 / start.elapsed().as_secs_f64();
            eprintln!("{} of {seeds} seeds, {rate:.1}/s, {} failed", batch.seeds, batch.failed.len());
        }
    }
    batch.time = start.elapsed();
    report::print(&batch);
    if let Some(seed) = batch.failed.keys().next() {
        print_trace(*seed)?;
        return Ok(1);
    }
    Ok(report::verdict(&batch))
}

impl Batch {
    fn add(&mut self, seed: u64, outcome: Result<Outcome, String>, twice: bool) -> anyhow::Result<()> {
        self.seeds += 1;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(why) => {
                self.failed.insert(seed, vec![format!("harness: {why}")]);
                return Ok(());
            }
        };
        let violations = outcome.findings.violations.iter();
        let mut failures: Vec<_> = violations.map(|one| format!("{}: {}", one.invariant, one.detail)).collect();
        if twice {
            self.repeated += 1;
            let mut again = Started::new(seed)?;
            let again = loop {
                match again.ended()? {
                    Some(outcome) => break outcome,
                    None => std::thread::sleep(POLL),
                }
            };
            let hash = again.map(|again| again.hash);
            if hash.as_ref() != Ok(&outcome.hash) {
                failures.push(format!("harness: the seed is not reproduced: {} and then {hash:?}", outcome.hash));
            }
        }
        if !failures.is_empty() {
            // At once: a batch may take long.
            failures.iter().for_each(|failure| eprintln!("seed {seed}: {failure}"));
            self.failed.insert(seed, failures);
        }
        self.virtual_ms += outcome.virtual_ms;
        self.undecided += u64::from(outcome.findings.undecided > 0);
        self.merge(&outcome.findings);
        Ok(())
    }

    fn merge(&mut self, other: &Findings) {
        for (name, counts) in &other.operations {
            let all = self.findings.operations.entry(name.clone()).or_default();
            all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
        }
        for (name, times) in &other.faults {
            *self.findings.faults.entry(name.clone()).or_default() += times;
        }
        for (name, looked) in &other.looked {
            let all = self.findings.looked.entry(name.clone()).or_default();
            (all.times, all.micros) = (all.times + looked.times, all.micros + looked.micros);
        }
        self.findings.undecided += other.undecided;
    }
}

/// One seed under way.
struct Started {
    child: Child,
    since: Instant,
}

impl Started {
    fn new(seed: u64) -> anyhow::Result<Self> {
        let child = seeded(seed, &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Ok(Self { child: child.context("cannot start a run")?, since: Instant::now() })
    }

    /// What it came to, once it has ended. Its output fits a pipe.
    fn ended(&mut self) -> anyhow::Result<Option<Result<Outcome, String>>> {
        if self.child.try_wait()?.is_none() {
            if self.since.elapsed() < SEED_MAX {
                return Ok(None);
            }
            self.child.kill()?;
            self.child.wait()?;
            return Ok(Some(Err(format!("it has not ended after {SEED_MAX:?}"))));
        }
        let mut text = String::new();
        if let Some(stdout) = self.child.stdout.as_mut() {
            stdout.read_to_string(&mut text)?;
        }
        Ok(Some(serde_json::from_str(&text).map_err(|error| format!("it said nothing that can be read: {error}"))))
    }
}

/// This program, for one seed.
pub(crate) fn seeded(seed: u64, more: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "atoll-sim".into()));
    command.args(["seed", &seed.to_string()]).args(more).env(SEED_VARIABLE, seed.to_string()).stdin(Stdio::null());
    command
}

fn print_trace(seed: u64) -> anyhow::Result<()> {
    let output = seeded(seed, &["--trace"]).output().context("cannot run the seed again")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains("JUDGE")).map_or(lines.len(), |at| at + 1);
    println!("\nseed {seed}, up to where the first violation shows (all of it: atoll-sim seed {seed} --trace):");
    println!("{}", lines[at.saturating_sub(TRACE_LINES)..at].join("\n"));
    if lines.is_empty() {
        bail!("the seed left no trace: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

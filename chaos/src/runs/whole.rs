//! A run, round by round, and what it proved.

use std::path::PathBuf;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::plan::Counts;
use super::round::{Outcomes, Round};
use super::{Run, report};
use crate::checkers::Violation;
use crate::cluster::{Cluster, NotBack, Options};
use crate::failpoints::Failpoints;
use crate::faults::{Kinds, clock};
use crate::rest::Ledger;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) binary: PathBuf,
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    /// Where evidence is kept.
    pub(crate) evidence: PathBuf,
    /// The checkout whose failpoints are visited.
    pub(crate) sources: PathBuf,
    /// Variables for every node.
    pub(crate) environment: Vec<(String, String)>,
    /// Variables for the first node.
    pub(crate) environment_of_one: Vec<(String, String)>,
    /// The only failpoint that is tried.
    pub(crate) failpoint: Option<String>,
    /// Rounds go on until one of these invariants is violated, if any is named.
    pub(crate) until: Vec<String>,
    /// Rounds go on after one that violated something.
    pub(crate) keep_going: bool,
}

/// What a run proved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Green,
    /// The plan was not met.
    Invalid(Vec<String>),
    /// These were violated.
    Violated(Vec<Violation>),
}

/// Does a run.
///
/// # Errors
/// When the harness fails, which proves nothing.
pub(crate) fn run(run: &Run, request: &Request) -> anyhow::Result<Verdict> {
    println!("== {} ({}), {} rounds, seed {}", run.name, run.about, request.rounds, request.seed);
    let clocks = tempfile::tempdir().context("no temporary folder")?;
    let mut options = Options {
        binary: request.binary.clone(),
        timing: run.timing,
        more: run.more,
        environment: request.environment.clone(),
        environment_of_one: request.environment_of_one.clone(),
        disk: run.disk,
    };
    if run.clock {
        options.environment.extend(prepare_clocks(clocks.path())?);
    }
    let mut random = StdRng::seed_from_u64(request.seed);
    let only = request.failpoint.as_deref();
    let mut failpoints = run.failpoints.then(|| Failpoints::of(&request.sources, only, &mut random)).transpose()?;
    let mut whole = Whole { run, request, counts: Counts::default(), violations: Vec::new() };
    let (mut ledger, mut kinds, mut cluster) = (Ledger::default(), Kinds::default(), None);
    for number in 0.. {
        // Failpoints are tried until each was, however many rounds that takes.
        if failpoints.as_ref().map_or(number >= request.rounds, Failpoints::is_done) {
            break;
        }
        if run.fresh {
            (cluster, ledger) = (None, Ledger::default());
        }
        let is_new = cluster.is_none();
        let at = match &mut cluster {
            Some(at) => at,
            none => none.insert(Cluster::unstarted(options.clone()).context("the cluster cannot be made")?),
        };
        if is_new && let Err(error) = begin(at, failpoints.as_mut(), &mut random) {
            whole.did_not_begin(number, at, error)?;
            break;
        }
        let round = Round {
            run,
            number,
            seed: request.seed,
            clients: request.clients,
            random: &mut random,
            ledger: &mut ledger,
            kinds: &mut kinds,
            failpoints: failpoints.as_mut(),
            last: number + 1 == request.rounds,
        };
        let done = round.run(at);
        if whole.take(number, at, done)? {
            break;
        }
    }
    let rounds = whole.counts.rounds.max(if failpoints.is_some() { 1 } else { request.rounds });
    whole.counts.kinds = kinds;
    Ok(whole.verdict(rounds, failpoints.as_ref()))
}

fn begin(cluster: &mut Cluster, failpoints: Option<&mut Failpoints>, random: &mut StdRng) -> anyhow::Result<()> {
    match failpoints {
        Some(failpoints) => failpoints.begin(cluster, random),
        None => cluster.start(),
    }
}

fn prepare_clocks(folder: &std::path::Path) -> anyhow::Result<Vec<(String, String)>> {
    for region in crate::cluster::spec::REGIONS {
        std::fs::write(folder.join(format!("{region}-1.clock")), "+0\n").context("cannot set a clock")?;
    }
    clock::environment(folder)
}

struct Whole<'a> {
    run: &'a Run,
    request: &'a Request,
    counts: Counts,
    violations: Vec<Violation>,
}

impl Whole<'_> {
    /// Nodes that do not come up are the cluster's fault, and their logs are kept; any other failure is the harness's.
    fn did_not_begin(&mut self, number: u32, cluster: &Cluster, error: anyhow::Error) -> anyhow::Result<()> {
        if error.downcast_ref::<NotBack>().is_none() {
            return Err(error.context("the cluster does not start"));
        }
        let folder = self.request.evidence.join(format!("{}-{}-{number}", self.run.name, self.request.seed));
        cluster.keep_logs(&folder)?;
        println!("round {number}: the cluster does not start; logs: {}\n{error:#}", folder.display());
        self.violations.push(Violation { invariant: "I14", what: format!("{error:#}") });
        Ok(())
    }

    /// Takes in a round; true when the run ends with it.
    fn take(&mut self, number: u32, cluster: &Cluster, done: anyhow::Result<Outcomes>) -> anyhow::Result<bool> {
        let name = format!("{}-{}-{number}", self.run.name, self.request.seed);
        let Outcomes { history, fired, violations } = match done {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let folder = self.request.evidence.join(&name);
                cluster.keep_logs(&folder)?;
                let error =
                    error.context(format!("round {number} of seed {}; logs: {}", self.request.seed, folder.display()));
                if self.violations.is_empty() {
                    return Err(error);
                }
                println!("the harness failed, too: {error:#}");
                return Ok(true);
            }
        };
        println!("{}", report::line(number, &history, &violations));
        self.counts.add(&history.operations, &fired);
        if violations.is_empty() {
            return Ok(false);
        }
        let folder = report::keep(&self.request.evidence, &name, &history, &violations)?;
        cluster.keep_logs(&folder)?;
        println!("seed {}, round {number}: violated; evidence: {}", self.request.seed, folder.display());
        for violation in &violations {
            println!("  {}: {}", violation.invariant, violation.what.chars().take(1_500).collect::<String>());
        }
        let until = &self.request.until;
        let is_found = violations.iter().any(|v| until.iter().any(|wanted| v.invariant == wanted));
        // A cluster that is broken once is no ground for further rounds.
        let done = if until.is_empty() { !self.request.keep_going } else { is_found };
        self.violations.extend(violations);
        Ok(done)
    }

    fn verdict(self, rounds: u32, failpoints: Option<&Failpoints>) -> Verdict {
        println!("{}", report::table(self.run, &self.counts));
        println!("{:?}", self.counts.outcomes);
        if !self.violations.is_empty() {
            return Verdict::Violated(self.violations);
        }
        let mut short = self.counts.shortfalls(self.run, rounds);
        short.extend(failpoints.into_iter().flat_map(Failpoints::never_visited));
        if short.is_empty() { Verdict::Green } else { Verdict::Invalid(short) }
    }
}

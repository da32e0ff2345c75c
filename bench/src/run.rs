//! `cargo xtask bench`: rows, rounds and servers in turns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::RunArgs;
use crate::content::{Content, Wanted};
use crate::machine::Setting;
use crate::push::{Pusher, Until};
use crate::results::{Measured, Outcome, Results, Round, RowResult};
use crate::rows::{Row, Work};
use crate::servers::{Kind, Server};
use crate::{fsyncs, measure, table, verify};

/// Pushes of which syncs are counted, for each client at once.
const COUNTED_PUSHES: usize = 4;
const WARM_UP_SECONDS: u64 = 1;
/// Comes before the first, and draws otherwise than all of them.
const WARM_UP_ROUND: u32 = 0;

/// Measures what was chosen; fails when a row is invalid.
pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<()> {
    let rows: Vec<&Row> = args.rows().into_iter().filter(|row| !kinds(args, row).is_empty()).collect();
    if rows.is_empty() {
        bail!("none of the chosen servers can be measured in any of the chosen rows");
    }
    let bench = Bench::prepare(args, &rows)?;
    let mut results = Results::read(&args.out())?;
    let mut servers = BTreeMap::new();
    let mut invalid = Vec::new();
    for row in &rows {
        let result = bench.row(row, &mut servers).await;
        bench.bar.suspend(|| println!("{}", table::row(row, &result)));
        invalid.extend(invalid_servers(row, &result));
        results.rows.insert(row.name.to_owned(), result);
        // A run that is broken off later has lost nothing.
        results.write(&args.out())?;
    }
    bench.bar.finish_and_clear();
    println!("{}", table::ratios(&results, &rows, &args.servers()));
    println!("written to {}", args.out().display());
    if !invalid.is_empty() {
        bail!("invalid: {}", invalid.join("; "));
    }
    Ok(())
}

fn invalid_servers(row: &Row, result: &RowResult) -> Vec<String> {
    let of = |(kind, outcome): (&Kind, &Outcome)| match outcome {
        Outcome::Invalid { reason } => Some(format!("{} at {kind}: {reason}", row.name)),
        Outcome::Measured(_) => None,
    };
    result.servers.iter().filter_map(of).collect()
}

struct Bench<'a> {
    args: &'a RunArgs,
    content: Content,
    folder: tempfile::TempDir,
    bar: ProgressBar,
}

/// Servers that run, with all that pulls ask for.
type Running = BTreeMap<Kind, Server>;

impl<'a> Bench<'a> {
    fn prepare(args: &'a RunArgs, rows: &[&Row]) -> anyhow::Result<Self> {
        let data = absolute(&args.data)?;
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let folder = tempfile::Builder::new().prefix("data-").tempdir_in(data)?;
        let mut wanted = Wanted::default();
        rows.iter().for_each(|row| row.want(&mut wanted));
        let rounds: usize = rows.iter().map(|row| kinds(args, row).len() * args.rounds as usize).sum();
        let bar = ProgressBar::new(rounds as u64);
        bar.set_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} rounds, {elapsed} of about {duration}: {msg}",
        )?);
        Ok(Self { args, content: Content::new(wanted), folder, bar })
    }

    async fn row(&self, row: &Row, servers: &mut Running) -> RowResult {
        let kinds = kinds(self.args, row);
        let setting = Setting::now(self.args.programs.versions(&kinds), self.folder.path());
        if !row.pulls() {
            // They measure alone: nothing else runs while they push.
            servers.clear();
        }
        let mut outcomes = BTreeMap::new();
        for kind in kinds {
            let ready = if row.pulls() { self.ready(kind, row, servers).await } else { Ok(()) };
            outcomes.insert(kind, ready.map(|()| Vec::<Round>::new()));
        }
        self.take_turns(row, servers, &mut outcomes).await;
        let mut finished = BTreeMap::new();
        for (kind, rounds) in outcomes {
            finished.insert(kind, self.outcome(row, kind, rounds).await);
        }
        RowResult { setting, seconds: self.args.seconds, servers: finished }
    }

    /// All rounds; a server that fails in one has no more.
    async fn take_turns(
        &self,
        row: &Row,
        servers: &Running,
        outcomes: &mut BTreeMap<Kind, anyhow::Result<Vec<Round>>>,
    ) {
        for number in 1..=self.args.rounds {
            for (kind, rounds) in &mut *outcomes {
                self.bar.set_message(format!("{} {kind} {number}", row.name));
                let measured = match rounds {
                    Ok(_) if row.pulls() => self.pull(row, &servers[kind], number).await,
                    Ok(_) => self.alone(row, *kind, number).await,
                    Err(_) => continue,
                };
                self.bar.inc(1);
                match measured {
                    Ok(round) => rounds.iter_mut().for_each(|rounds| rounds.push(round.clone())),
                    Err(error) => *rounds = Err(error),
                }
            }
        }
    }

    /// Makes a server ready for a row of pulls: starts and loads it if it does not run yet, sees whether it answers
    /// rightly, and warms it up.
    async fn ready(&self, kind: Kind, row: &Row, servers: &mut Running) -> anyhow::Result<()> {
        let server = match servers.entry(kind) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(place) => {
                self.bar.set_message(format!("loading {kind}"));
                let folder = self.folder.path().join(kind.to_string());
                let server = Server::start(kind, &folder, &self.args.programs, false).await?;
                server.load(&self.content).await?;
                place.insert(server)
            }
        };
        verify::check(row.work, server.http[0], &self.content).await?;
        measure::round(row.work, server, &self.content, WARM_UP_SECONDS, WARM_UP_ROUND).await.map(drop)
    }

    async fn pull(&self, row: &Row, server: &Server, number: u32) -> anyhow::Result<Round> {
        measure::round(row.work, server, &self.content, self.args.seconds, number).await
    }

    /// A round of what stores: by a server of its own, whose data goes with it.
    async fn alone(&self, row: &Row, kind: Kind, number: u32) -> anyhow::Result<Round> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let server = Server::start(kind, folder.path(), &self.args.programs, false).await?;
        if let Work::Push { layer, at_once } = row.work {
            Pusher::new(layer, at_once).run(server.http[0], Until::Count(at_once)).await?;
        }
        measure::round(row.work, &server, &self.content, self.args.seconds, number).await
    }

    async fn outcome(&self, row: &Row, kind: Kind, rounds: anyhow::Result<Vec<Round>>) -> Outcome {
        let measured = async {
            let rounds = rounds?;
            let fsyncs_per_push = match row.work {
                Work::Push { layer, at_once } if !self.args.no_fsyncs => Some(self.fsyncs(kind, layer, at_once).await?),
                _ => None,
            };
            Ok(Measured { rounds, fsyncs_per_push })
        };
        measured.await.map_or_else(|e: anyhow::Error| Outcome::Invalid { reason: format!("{e:#}") }, Outcome::Measured)
    }

    /// Syncs for one push, in a run of its own under strace.
    async fn fsyncs(&self, kind: Kind, layer: u64, at_once: usize) -> anyhow::Result<f64> {
        self.bar.set_message(format!("counting syncs of {kind}"));
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let server = Server::start(kind, folder.path(), &self.args.programs, true).await?;
        let traces: Vec<PathBuf> = (0..server.nodes()).map(|node| server.trace(node)).collect();
        let pusher = Pusher::new(layer, at_once);
        pusher.run(server.http[0], Until::Count(at_once)).await?;
        let from = fsyncs::now();
        let pushed = pusher.run(server.http[0], Until::Count(COUNTED_PUSHES * at_once)).await?;
        let within = from..=fsyncs::now();
        // The traces are whole once the server has ended.
        drop(server);
        let counts = traces.iter().map(|trace| fsyncs::count(trace, &within)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(counts.iter().sum::<usize>() as f64 / pushed.latencies.count() as f64)
    }
}

fn kinds(args: &RunArgs, row: &Row) -> Vec<Kind> {
    args.servers().into_iter().filter(|kind| row.includes(*kind)).collect()
}

/// Servers are told whole paths: some change their folder.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}

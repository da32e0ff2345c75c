//! `cargo xtask bench scale`: whether pulls are as quick with a million tags as with a thousand, and what a node of
//! that size takes to start, to hold and to snapshot. All is filled in through the public interface.

mod fill;
mod pulls;
mod snapshot;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::args::ScaleArgs;
use crate::machine::Setting;
use crate::measure::Meter;
use crate::results::{Measured, OTHER_LOAD_MAX, Results, Round};
use crate::servers::{Kind, Server};
use crate::stats::Figure;

pub(crate) use fill::Size;
pub(crate) use pulls::PULLS;

/// A node of some size. What has a default is not in results of earlier benches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scale {
    pub(crate) setting: Setting,
    pub(crate) size: Size,
    /// How long each round took.
    #[serde(default)]
    pub(crate) seconds: u64,
    /// Whether all that is pulled had been asked for once before.
    #[serde(default)]
    pub(crate) all_asked_before: bool,
    /// How long it took to fill in.
    pub(crate) fill_seconds: f64,
    /// From the start of the process to `/readyz?for=push` saying 200, after it was ended in good order.
    pub(crate) ready_ms: Figure,
    /// The same after it was killed in the midst of its life.
    #[serde(default)]
    pub(crate) ready_after_kill_ms: Option<Figure>,
    /// The share of all cores that others took in those starts: the larger median of the two kinds.
    #[serde(default)]
    pub(crate) starts_other_load: f64,
    /// Resident once it was ready.
    pub(crate) resident_mib: Figure,
    /// The peak over all pulls.
    pub(crate) peak_mib: f64,
    /// The newest snapshot that it made while it was filled.
    pub(crate) snapshot: Option<snapshot::Snapshot>,
    /// By name of the pull.
    pub(crate) pulls: BTreeMap<String, Measured>,
}

impl Scale {
    /// Whether something else ran while it started.
    pub(crate) fn starts_disturbed(&self) -> bool {
        self.starts_other_load > OTHER_LOAD_MAX
    }

    /// All rounds of all pulls.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.pulls.values().flat_map(|pull| &pull.rounds)
    }
}

/// Fills both sizes where they are not yet, and measures them in turns.
pub(crate) async fn run(args: &ScaleArgs) -> anyhow::Result<()> {
    let data = std::path::absolute(&args.data)?;
    let large = Size { tags: args.tags, blobs: args.blobs, records: args.records.max(args.blobs) };
    let mut nodes = Vec::new();
    for size in [large.scaled(args.base_tags), large] {
        nodes.push(Node::start(args, size, &data.join(size.name())).await?);
    }
    for node in &nodes {
        fill::ask_for_all(args, &node.server, node.size).await?;
    }
    for number in 1..=args.rounds {
        for node in &mut nodes {
            println!("round {number} at {} tags", node.size.tags);
            node.round(args.seconds, number).await?;
        }
    }
    let mut results = Results::read(&args.out)?;
    // Sizes are compared within one run: what an earlier one has of them goes.
    results.scale.clear();
    for node in nodes {
        let (name, scale) = (node.size.name(), node.finish(args).await?);
        results.scale.insert(name, scale);
    }
    results.write(&args.out)?;
    println!("{}", crate::table::scale(&results));
    println!("written to {}", args.out.display());
    Ok(())
}

/// A node that is filled and runs.
struct Node {
    setting: Setting,
    size: Size,
    known: pulls::Known,
    server: Server,
    fill_seconds: f64,
    starts: Starts,
    resident_mib: Figure,
    snapshot: Option<snapshot::Snapshot>,
    pulls: BTreeMap<String, Measured>,
}

impl Node {
    async fn start(args: &ScaleArgs, size: Size, folder: &Path) -> anyhow::Result<Self> {
        let fill_seconds = fill::fill(args, size, folder).await?;
        let setting = Setting::now(args.programs.versions(&[Kind::AtollOne]), folder);
        // A start that does not count: however an earlier run ended, the next is one after a good end.
        let mut server = Server::start(Kind::AtollOne, folder, &args.programs, false).await?;
        fill::check(&server, &size).await?;
        let (mut starts, mut resident) = (Starts::default(), Vec::new());
        for _ in 0..args.rounds {
            // The one before must have ended.
            drop(server);
            server = starts.start(args, folder).await?;
            resident.push(server.resident_mib());
        }
        let resident_mib = Figure::of(resident).context("at least one round is needed")?;
        let (snapshot, known) = (snapshot::newest(folder)?, pulls::Known::of(size));
        let pulls = BTreeMap::new();
        Ok(Self { setting, size, known, server, fill_seconds, starts, resident_mib, snapshot, pulls })
    }

    /// All pulls once.
    async fn round(&mut self, seconds: u64, number: u32) -> anyhow::Result<()> {
        for pull in PULLS {
            let round = pull.measure(&self.server, &self.known, seconds, number).await?;
            self.pulls.entry(pull.name.to_owned()).or_default().rounds.push(round);
        }
        Ok(())
    }

    async fn finish(self, args: &ScaleArgs) -> anyhow::Result<Scale> {
        let after_kills = after_kills(args, self.server, self.size).await?;
        let peaks = self.pulls.values().flat_map(|pull| pull.rounds.iter().map(|round| round.peak_mib));
        Ok(Scale {
            setting: self.setting,
            size: self.size,
            seconds: args.seconds,
            all_asked_before: true,
            fill_seconds: self.fill_seconds,
            ready_ms: self.starts.ready_ms().context("at least one start is needed")?,
            ready_after_kill_ms: after_kills.ready_ms(),
            starts_other_load: self.starts.other_load().max(after_kills.other_load()),
            resident_mib: self.resident_mib,
            peak_mib: peaks.fold(0.0, f64::max),
            snapshot: self.snapshot,
            pulls: self.pulls,
        })
    }
}

/// Starts after `kill -9`, each of a node that had just acknowledged puts: what a good end would have settled is still
/// to be read again. They come after all pulls, which find the node as it was filled.
async fn after_kills(args: &ScaleArgs, mut server: Server, size: Size) -> anyhow::Result<Starts> {
    let mut starts = Starts::default();
    for number in 1..=args.rounds {
        println!("kill {number} at {} tags", size.tags);
        fill::put_again(args, &server, size).await?;
        let folder = server.folder.clone();
        server.kill()?;
        server = starts.start(args, &folder).await?;
        fill::check(&server, &size).await?;
    }
    Ok(starts)
}

/// How long some starts took until `/readyz?for=push` said 200, and what ran beside them.
#[derive(Default)]
struct Starts {
    ms: Vec<f64>,
    other_load: Vec<f64>,
}

impl Starts {
    async fn start(&mut self, args: &ScaleArgs, folder: &Path) -> anyhow::Result<Server> {
        let (meter, start) = (Meter::start(), Instant::now());
        let server = Server::start(Kind::AtollOne, folder, &args.programs, false).await?;
        self.ms.push(start.elapsed().as_secs_f64() * 1000.0);
        self.other_load.push(meter.other_load(server.usage().cpu_seconds));
        Ok(server)
    }

    fn ready_ms(&self) -> Option<Figure> {
        Figure::of(self.ms.iter().copied())
    }

    /// The median: a start is so short that a tick of the clock is a percent or more of it.
    fn other_load(&self) -> f64 {
        Figure::of(self.other_load.iter().copied()).map_or(0.0, |figure| figure.median)
    }
}

//! `cargo xtask bench scale`: whether pulls are as quick with a million tags as with a thousand, and what a node of
//! that size takes to start, to hold and to snapshot. All is filled in through the public interface.

mod fill;
mod pulls;
mod snapshot;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::args::ScaleArgs;
use crate::machine::Setting;
use crate::results::{Measured, Results};
use crate::servers::{Kind, Server};
use crate::stats::Figure;

pub(crate) use fill::Size;
pub(crate) use pulls::PULLS;

/// A node of some size.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scale {
    pub(crate) setting: Setting,
    pub(crate) size: Size,
    /// How long it took to fill in.
    pub(crate) fill_seconds: f64,
    /// From the start of the process to `/readyz?for=push` saying 200.
    pub(crate) ready_ms: Figure,
    /// Resident once it was ready.
    pub(crate) resident_mib: Figure,
    /// The peak over all pulls.
    pub(crate) peak_mib: f64,
    /// The newest snapshot that it made while it was filled.
    pub(crate) snapshot: Option<snapshot::Snapshot>,
    /// By name of the pull.
    pub(crate) pulls: BTreeMap<String, Measured>,
}

/// Fills both sizes where they are not yet, and measures them in turns.
pub(crate) async fn run(args: &ScaleArgs) -> anyhow::Result<()> {
    let data = std::path::absolute(&args.data)?;
    let large = Size { tags: args.tags, blobs: args.blobs, records: args.records.max(args.blobs) };
    let small = Size { tags: args.base_tags, blobs: 0, records: 0 };
    let mut nodes = Vec::new();
    for size in [small, large] {
        nodes.push(Node::start(args, size, &data.join(size.name())).await?);
    }
    for number in 1..=args.rounds {
        for node in &mut nodes {
            println!("round {number} at {} tags", node.size.tags);
            for pull in PULLS {
                let round = pull.measure(&node.server, &node.size, args.seconds).await?;
                node.pulls.entry(pull.name.to_owned()).or_default().rounds.push(round);
            }
        }
    }
    let mut results = Results::read(&args.out)?;
    for node in nodes {
        let (name, scale) = (node.size.name(), node.finish(args));
        results.scale.insert(name, scale);
    }
    results.write(&args.out)?;
    println!("{}", crate::table::scale(&results));
    println!("written to {}", args.out.display());
    Ok(())
}

/// A node that is filled and runs.
struct Node {
    size: Size,
    server: Server,
    fill_seconds: f64,
    ready_ms: Figure,
    resident_mib: Figure,
    snapshot: Option<snapshot::Snapshot>,
    pulls: BTreeMap<String, Measured>,
}

impl Node {
    async fn start(args: &ScaleArgs, size: Size, folder: &Path) -> anyhow::Result<Self> {
        let fill_seconds = fill::fill(args, size, folder).await?;
        let (mut ready, mut resident, mut running) = (Vec::new(), Vec::new(), None);
        for _ in 0..args.rounds {
            // The one before must have ended.
            drop(running.take());
            let start = Instant::now();
            let server = Server::start(Kind::AtollOne, folder, &args.programs, false).await?;
            ready.push(start.elapsed().as_secs_f64() * 1000.0);
            resident.push(server.resident_mib());
            running = Some(server);
        }
        let (Some(server), Some(ready_ms), Some(resident_mib)) = (running, Figure::of(ready), Figure::of(resident))
        else {
            anyhow::bail!("at least one round is needed");
        };
        fill::check(&server, &size).await?;
        let snapshot = snapshot::newest(folder)?;
        Ok(Self { size, server, fill_seconds, ready_ms, resident_mib, snapshot, pulls: BTreeMap::new() })
    }

    fn finish(self, args: &ScaleArgs) -> Scale {
        let versions = args.programs.versions(&[Kind::AtollOne]);
        let peaks = self.pulls.values().flat_map(|pull| pull.rounds.iter().map(|round| round.peak_mib));
        Scale {
            setting: Setting::now(versions, &self.server.folder),
            size: self.size,
            fill_seconds: self.fill_seconds,
            ready_ms: self.ready_ms,
            resident_mib: self.resident_mib,
            peak_mib: peaks.fold(0.0, f64::max),
            snapshot: self.snapshot,
            pulls: self.pulls,
        }
    }
}

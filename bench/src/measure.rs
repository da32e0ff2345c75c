//! One round: the load of a row at one server, and what both and the machine used meanwhile.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::content::Content;
use crate::latency::Percentiles;
use crate::machine::{busy_seconds, load_average};
use crate::process::own_cpu_seconds;
use crate::push::{Pusher, Until};
use crate::results::Round;
use crate::rows::{Target, Work};
use crate::servers::Server;
use crate::{head, listing, memory, replicate, wrk};

/// What a generator saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) per_second: Option<f64>,
    pub(crate) count: u64,
    pub(crate) percentiles: Percentiles,
}

/// Measures a row at a server for about so many seconds. Pulls that are drawn by chance are other ones in each round.
pub(crate) async fn round(
    work: Work,
    server: &Server,
    content: &Content,
    seconds: u64,
    number: u32,
) -> anyhow::Result<Round> {
    measured(server, load(work, server, content, seconds, number)).await
}

/// Measures pulls of any kind; `refused` says whether all answers are to be 404.
pub(crate) async fn pulls(
    server: &Server,
    load: &wrk::Load,
    seconds: u64,
    refused: bool,
    body_bytes: u64,
) -> anyhow::Result<Round> {
    measured(server, get(server, load, seconds, refused, body_bytes)).await
}

async fn measured(server: &Server, load: impl Future<Output = anyhow::Result<Seen>>) -> anyhow::Result<Round> {
    // What the server before left to be written is not this one's.
    rustix::fs::sync();
    server.forget_peak()?;
    let load_average_before = load_average();
    let (meter, used_before) = (Meter::start(), server.usage().cpu_seconds);
    let Seen { per_second, count, percentiles } = load.await?;
    let usage = server.usage();
    let used = usage.cpu_seconds - used_before;
    ensure!(count > 0, "nothing was answered");
    Ok(Round {
        per_second,
        p50_ms: percentiles.p50_ms,
        p99_ms: percentiles.p99_ms,
        count,
        cpu_seconds_per_thousand: used * 1000.0 / count as f64,
        peak_mib: usage.peak_mib,
        load_average_before,
        other_load: meter.other_load(used),
    })
}

/// Tells what ran on the machine beside the bench and a server since it was started.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    busy: f64,
    own: f64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { since: Instant::now(), busy: busy_seconds(), own: own_cpu_seconds() }
    }

    /// The share of all cores that neither the bench took nor the server, which used so many seconds of them.
    pub(crate) fn other_load(&self, used: f64) -> f64 {
        let (busy, own) = (busy_seconds() - self.busy, own_cpu_seconds() - self.own);
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        ((busy - own - used) / (self.since.elapsed().as_secs_f64() * cores)).max(0.0)
    }
}

async fn load(work: Work, server: &Server, content: &Content, seconds: u64, number: u32) -> anyhow::Result<Seen> {
    let (address, time) = (server.http[0], Duration::from_secs(seconds));
    let rate = |(latencies, elapsed): (crate::latency::Latencies, Duration)| Seen {
        per_second: Some(latencies.count() as f64 / elapsed.as_secs_f64()),
        count: latencies.count(),
        percentiles: latencies.percentiles(),
    };
    match work {
        Work::Get { target, connections } => {
            let (pulls, refused) = (target.load(content, connections, number), target == Target::UnknownTag);
            get(server, &pulls, seconds, refused, target.body_bytes(content)).await
        }
        Work::Head { connections } => {
            let path = crate::rows::manifest_path("v1");
            Ok(rate(head::run(address, &path, connections, time).await?))
        }
        Work::List { clients } => Ok(rate(listing::run(address, clients, time).await?)),
        Work::Push { layer, at_once } => {
            let pushed = Pusher::new(layer, at_once).run(address, Until::Time(time)).await?;
            Ok(rate((pushed.latencies, pushed.elapsed)))
        }
        Work::Replicate(seen) => {
            let latencies = replicate::run(seen, server, time).await?;
            Ok(Seen { per_second: None, count: latencies.count(), percentiles: latencies.percentiles() })
        }
        Work::Memory { clients } => Ok(rate(memory::run(address, clients).await?)),
    }
}

async fn get(server: &Server, load: &wrk::Load, seconds: u64, refused: bool, body_bytes: u64) -> anyhow::Result<Seen> {
    let summary = wrk::run(server.http[0], load, seconds).await?;
    check(&summary, refused, body_bytes)?;
    Ok(Seen { per_second: Some(summary.per_second()), count: summary.requests, percentiles: summary.percentiles() })
}

/// Whether all answers under load were of the right kind and length.
fn check(summary: &wrk::Summary, refused: bool, body_bytes: u64) -> anyhow::Result<()> {
    let refused = if refused { summary.requests } else { 0 };
    if summary.refused != refused || summary.failed > 0 {
        bail!(
            "under load {} of {} answers had a status of 400 or above (right: {refused}), and {} failed",
            summary.refused,
            summary.requests,
            summary.failed
        );
    }
    if summary.bytes < summary.requests * body_bytes {
        bail!("under load {} answers had {} bytes, less than {body_bytes} each", summary.requests, summary.bytes);
    }
    Ok(())
}

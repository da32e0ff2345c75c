//! wrk, the generator of all pulls whose answers have bodies: one command of bounded time, with its results as JSON.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::latency::Percentiles;

/// Threads of the generator: as many as the machine of the published figures has cores.
const THREADS: u64 = 2;
const MARK: &str = "ATOLL-BENCH ";

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Path and query.
    pub(crate) path: String,
    /// Header lines.
    pub(crate) headers: Vec<String>,
    pub(crate) connections: u64,
    /// Lua that goes before the report, such as a `request` of its own. What it draws by `math.random` is seeded.
    pub(crate) script: String,
    /// Number of the round: in each, other requests are drawn.
    pub(crate) round: u32,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Summary {
    pub(crate) requests: u64,
    /// Of answers, heads included, also of those that were under way at the end.
    pub(crate) bytes: u64,
    pub(crate) microseconds: u64,
    /// Answers with a status of 400 and above.
    pub(crate) refused: u64,
    /// Connections, reads, writes and answers that failed or took too long.
    pub(crate) failed: u64,
    p50: f64,
    p99: f64,
}

impl Summary {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / (self.microseconds.max(1)) as f64
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        Percentiles { p50_ms: self.p50 / 1000.0, p99_ms: self.p99 / 1000.0 }
    }
}

/// `done` of wrk, which prints what [`Summary`] reads.
const REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nATOLL-BENCH {"requests":%d,"bytes":%.0f,"microseconds":%d,"refused":%d,"failed":%d,"p50":%.1f,"p99":%.1f}\n',
    summary.requests, summary.bytes, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// Gives each thread its seed. Every one of wrk's threads has a Lua of its own, and each of those would draw the same
/// numbers, in every round again: what is asked for would be asked for twice in step, and found in caches. `setup` is
/// run once for each thread by wrk's main one, and `init` then by the thread itself.
fn seeding(load: &Load, threads: u64) -> String {
    let seeds: Vec<String> = (0..threads).map(|thread| seed(load, thread).to_string()).collect();
    format!(
        "local seeds = {{ {} }}\n\
         local threads = 0\n\
         setup = function(thread)\n\
         \x20 threads = threads + 1\n\
         \x20 thread:set(\"seed\", seeds[threads])\n\
         end\n\
         init = function()\n\
         \x20 math.randomseed(seed)\n\
         \x20 for _ = 1, 100 do math.random() end\n\
         end\n",
        seeds.join(", ")
    )
}

/// Of 53 bits, which a number of Lua holds. It follows from the round, the thread and what is asked for: each of them
/// draws apart from the others, and all servers are asked for the same.
fn seed(load: &Load, thread: u64) -> u64 {
    let asked = Sha256::new().chain_update(&load.path).chain_update(&load.script);
    let hash = asked.chain_update(load.round.to_le_bytes()).chain_update(thread.to_le_bytes()).finalize();
    hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte)) >> 11
}

/// All that wrk is told in Lua.
fn script(load: &Load, threads: u64) -> String {
    let seeding = if load.script.is_empty() { String::new() } else { seeding(load, threads) };
    format!("{seeding}{}\n{REPORT}", load.script)
}

/// Runs wrk against an address.
pub(crate) async fn run(address: SocketAddr, load: &Load, seconds: u64) -> anyhow::Result<Summary> {
    let threads = THREADS.min(load.connections);
    let file = tempfile::Builder::new().suffix(".lua").tempfile().context("cannot make wrk's script")?;
    std::fs::write(file.path(), script(load, threads))?;
    let mut wrk = tokio::process::Command::new("wrk");
    wrk.arg(format!("-t{threads}")).arg(format!("-c{}", load.connections)).arg(format!("-d{seconds}s"));
    wrk.args(["--timeout", "60s", "--script"]).arg(file.path());
    for header in &load.headers {
        wrk.arg("--header").arg(header);
    }
    wrk.arg(format!("http://{address}{}", load.path)).stdin(Stdio::null()).kill_on_drop(true);
    let output = wrk.output().await.context("cannot run wrk; install it (Debian: apt-get install wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("wrk failed: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Summary> {
    let line = text.lines().find_map(|line| line.strip_prefix(MARK));
    let line = line.with_context(|| format!("wrk reported nothing: {text}"))?;
    serde_json::from_str(line).with_context(|| format!("wrk reported {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 2s test @ http://127.0.0.1:24001/x\n  1 threads and 4 connections\n\n\
        ATOLL-BENCH {\"requests\":3000,\"bytes\":2250000,\"microseconds\":1500000,\"refused\":2,\"failed\":1,\
        \"p50\":96.0,\"p99\":11987.0}\n";

    #[test]
    fn the_report_is_found_in_what_wrk_prints() {
        let summary = parse(OUTPUT).unwrap();
        assert_eq!((summary.requests, summary.refused, summary.failed), (3000, 2, 1));
        assert!((summary.per_second() - 2000.0).abs() < 1e-6);
        assert_eq!(summary.percentiles(), Percentiles { p50_ms: 0.096, p99_ms: 11.987 });
    }

    #[test]
    fn threads_rounds_and_rows_draw_apart_and_servers_alike() {
        let load = |script: &str, round| Load {
            path: "/x".into(),
            headers: Vec::new(),
            connections: 32,
            script: script.into(),
            round,
        };
        let all = [load("one", 1), load("one", 2), load("two", 1)];
        let seeds: Vec<u64> = all.iter().flat_map(|load| [seed(load, 0), seed(load, 1)]).collect();
        assert_eq!(seeds.iter().collect::<std::collections::BTreeSet<_>>().len(), seeds.len(), "{seeds:?}");
        assert!(seeds.iter().all(|seed| *seed < 1 << 53), "{seeds:?}");
        let text = script(&load("one", 1), 2);
        assert!(text.contains(&format!("{{ {}, {} }}", seeds[0], seeds[1])), "{text}");
        assert_eq!(text, script(&load("one", 1), 2));
        assert!(!script(&load("", 1), 2).contains("randomseed"), "what draws nothing needs no seed");
    }

    #[test]
    fn no_report_and_a_report_of_nothing_are_failures() {
        assert!(parse("Running 2s test\n").is_err());
        // Lua writes this where nothing was measured.
        assert!(parse("ATOLL-BENCH {\"requests\":0,\"p99\":-nan}\n").is_err());
    }
}

//! wrk, the generator of all pulls whose answers have bodies: one command of bounded time, with its results as JSON.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::Deserialize;

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
    /// Lua that goes before the report, such as a `request` of its own.
    pub(crate) script: String,
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

/// Runs wrk against an address.
pub(crate) async fn run(address: SocketAddr, load: &Load, seconds: u64) -> anyhow::Result<Summary> {
    let script = tempfile::Builder::new().suffix(".lua").tempfile().context("cannot make wrk's script")?;
    std::fs::write(script.path(), format!("{}\n{REPORT}", load.script))?;
    let threads = THREADS.min(load.connections);
    let mut wrk = tokio::process::Command::new("wrk");
    wrk.arg(format!("-t{threads}")).arg(format!("-c{}", load.connections)).arg(format!("-d{seconds}s"));
    wrk.args(["--timeout", "60s", "--script"]).arg(script.path());
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
    fn no_report_and_a_report_of_nothing_are_failures() {
        assert!(parse("Running 2s test\n").is_err());
        // Lua writes this where nothing was measured.
        assert!(parse("ATOLL-BENCH {\"requests\":0,\"p99\":-nan}\n").is_err());
    }
}

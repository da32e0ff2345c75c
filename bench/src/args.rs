//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::rows::{ROWS, Row, find};
use crate::servers::{Kind, Programs};

/// Where results are, unless told otherwise.
const RESULTS: &str = "target/bench/results.json";

/// Atoll and its peers under the same load on this machine
#[derive(Debug, Parser)]
#[command(name = "atoll-bench", bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true, after_help = rows_help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

fn rows_help() -> String {
    let line = |row: &Row| {
        format!("  {:<20} {}{}\n", row.name, row.title, if row.by_default() { "" } else { " (only when chosen)" })
    };
    format!("Rows:\n{}", ROWS.iter().map(line).collect::<String>())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The same pulls with few and with many tags and blobs; start-up, memory and snapshot at that size
    Scale(ScaleArgs),
    /// Writes the tables of docs/benchmarks.md anew from the results, and docs/benchmarks.json beside it
    Report(ReportArgs),
}

/// What to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Rows to measure; all that are so by default
    #[arg(long, value_name = "ROW", value_delimiter = ',', value_parser = row)]
    only: Vec<&'static Row>,
    /// Servers to measure; all
    #[arg(long, value_name = "SERVER", value_delimiter = ',', value_enum)]
    servers: Vec<Kind>,
    /// Rounds of each server in each row, in turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long a round takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Do not count syncs, which takes a run under strace for each row of pushes
    #[arg(long)]
    pub(crate) no_fsyncs: bool,
    /// The file of results; rows that are measured replace what it has of them [default: target/bench/results.json,
    /// or target/bench/partial.json when servers are chosen]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where servers keep their data meanwhile
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) programs: Programs,
}

fn row(name: &str) -> Result<&'static Row, String> {
    find(name).ok_or_else(|| {
        format!("there is no such row; they are {}", ROWS.iter().map(|r| r.name).collect::<Vec<_>>().join(", "))
    })
}

impl RunArgs {
    pub(crate) fn rows(&self) -> Vec<&'static Row> {
        let chosen = |row: &&Row| {
            if self.only.is_empty() { row.by_default() } else { self.only.iter().any(|o| o.name == row.name) }
        };
        ROWS.iter().filter(chosen).collect()
    }

    pub(crate) fn servers(&self) -> Vec<Kind> {
        let chosen = |kind: &Kind| self.servers.is_empty() || self.servers.contains(kind);
        Kind::ALL.into_iter().filter(chosen).collect()
    }

    /// A choice of servers is no table of ratios: it does not replace one.
    pub(crate) fn out(&self) -> PathBuf {
        let default = if self.servers.is_empty() { RESULTS } else { "target/bench/partial.json" };
        self.out.clone().unwrap_or_else(|| default.into())
    }
}

/// How much to fill in.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Tags to fill in for the large size
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) tags: u64,
    /// Different blobs to push, of 64 bytes each; wrk holds the digests of all of them
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    pub(crate) blobs: u64,
    /// Blob records to fill in: those pushed, and links of them to more repositories by cross-repository mounts
    #[arg(long, default_value_t = 2_000_000)]
    pub(crate) records: u64,
    /// Tags of the small size that it is compared with; it has blobs and records in the same proportion
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) base_tags: u64,
    /// Clients that fill in at once
    #[arg(long, default_value_t = 128)]
    pub(crate) clients: usize,
    /// Rounds of each size, in turns; and starts of either kind
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How long a round takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// The file of results
    #[arg(long, value_name = "FILE", default_value = RESULTS)]
    pub(crate) out: PathBuf,
    /// Where the data is; what an earlier run filled in there is used again
    #[arg(long, value_name = "DIR", default_value = "target/bench/scale")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) programs: Programs,
}

/// What to write.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// The file of results
    #[arg(long, value_name = "FILE", default_value = RESULTS)]
    pub(crate) results: PathBuf,
    /// The page; the results are written beside it as well, as JSON
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    pub(crate) page: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rows_and_servers_can_be_chosen_and_a_choice_of_servers_replaces_no_table() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.run);
        let all = parse("bench").unwrap();
        assert_eq!(all.servers().len(), Kind::ALL.len());
        assert!(all.rows().len() < ROWS.len() && all.out() == std::path::Path::new(RESULTS));
        let some = parse("bench --only blob-4k,push-1m-4 --servers nginx,atoll-one").unwrap();
        assert_eq!(some.rows().iter().map(|r| r.name).collect::<Vec<_>>(), ["blob-4k", "push-1m-4"]);
        assert_eq!(some.servers(), [Kind::AtollOne, Kind::Nginx]);
        assert_ne!(some.out(), std::path::Path::new(RESULTS));
        assert!(parse("bench --only nonsense").is_err());
    }
}

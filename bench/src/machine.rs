//! What a figure depends on: the machine, its load, and what was measured.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::process::TICKS_PER_SECOND;
use crate::servers::Kind;

/// What git puts behind a commit where files differ from it.
const DIRTY: &str = "-dirty";

/// Where and with what a row was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// When, in UTC.
    pub(crate) taken: String,
    /// The commit of this checkout, with `-dirty` behind it where files differ.
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) generator: String,
    pub(crate) servers: BTreeMap<Kind, String>,
}

impl Setting {
    /// Whether what was measured is not what the commit says.
    pub(crate) fn is_dirty(&self) -> bool {
        self.commit.ends_with(DIRTY)
    }

    pub(crate) fn now(servers: BTreeMap<Kind, String>, folder: &std::path::Path) -> Self {
        Self {
            taken: jiff::Timestamp::now().strftime("%F %H:%M UTC").to_string(),
            commit: first_line("git", &["describe", "--always", "--dirty", "--abbrev=9", "--exclude=*"]),
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024,
            kernel: first_line("uname", &["-sr"]),
            file_system: first_line("stat", &["--file-system", "--format=%T", &folder.to_string_lossy()]),
            generator: first_line("wrk", &["-v"]),
            servers,
        }
    }
}

/// The first line that a program prints; `unknown` where there is none.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().filter(|line| !line.is_empty()).unwrap_or("unknown").trim().to_owned()
}

/// The first value of a key in a file of lines `key: value`.
fn field(file: &str, key: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    value.unwrap_or("unknown").trim().to_owned()
}

/// Seconds that processes took of all cores since the start of the machine.
pub(crate) fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(stat.lines().next().unwrap_or_default()) / TICKS_PER_SECOND
}

/// user, nice and system of the line `cpu …`: what is idle, waits or serves interrupts belongs to no process.
fn busy_ticks(line: &str) -> f64 {
    line.split_whitespace().skip(1).take(3).filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// The mean number of processes that ran or wanted to, over the last minute.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_interrupts_and_idling_is_nobodys() {
        assert_eq!(busy_ticks("cpu  100 20 30 4000 5 6 7 8 0 0"), 150.0);
        assert!(busy_seconds() > 0.0);
    }
}

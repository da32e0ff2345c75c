//! How often a server syncs for one push: strace writes each such call with its time, and those within the pushes are
//! counted. With `--seccomp-bpf` all other calls run at full speed, so that what is written together stays together.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

/// All calls that wait for a disk.
const CALLS: &str = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync";

/// The command, run by strace.
pub(crate) fn traced(command: &[&str], file: &Path) -> Vec<String> {
    let file = file.to_string_lossy();
    let strace = ["strace", "--seccomp-bpf", "-f", "-qq", "-ttt", "-e", CALLS, "-e", "signal=none", "-o", &file];
    strace.iter().chain(command).map(|&word| word.to_owned()).collect()
}

/// The calls in a trace that began within a time, in seconds since 1970.
pub(crate) fn count(file: &Path, within: &RangeInclusive<f64>) -> anyhow::Result<usize> {
    let trace = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(trace.lines().filter_map(call_time).filter(|time| within.contains(time)).count())
}

/// When the call of a line began: `PID SECONDS fsync(7) = 0`. A call that another thread's line cut in two counts once.
fn call_time(line: &str) -> Option<f64> {
    let mut words = line.split_whitespace().skip(1);
    let (time, call) = (words.next()?.parse().ok()?, words.next()?);
    call.contains('(').then_some(time)
}

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_and_within_the_time_only() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("trace");
        let trace = "12 100.5 fsync(7) = 0\n\
                     13 101.0 fdatasync(9 <unfinished ...>\n\
                     12 101.1 fsync(7)                        = 0\n\
                     13 101.2 <... fdatasync resumed>)      = 0\n\
                     12 103.0 fsync(7) = 0\n\
                     13 104.0 +++ exited with 0 +++\n";
        std::fs::write(&file, trace).unwrap();
        assert_eq!(count(&file, &(101.0..=102.0)).unwrap(), 2);
        assert_eq!(count(&file, &(0.0..=200.0)).unwrap(), 4);
    }
}

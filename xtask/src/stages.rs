//! `cargo xtask test`: every check, in stages, with the minutes that each took.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{arrows, prerequisites, tools, workspace};

/// Runs all stages; the first that fails ends it.
pub(crate) fn test(arguments: &[OsString]) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let outcome = all(arguments, &mut times);
    for (name, time) in &times {
        println!("{:6.1} min  {name}", time.as_secs_f32() / 60.0);
    }
    outcome
}

fn all(arguments: &[OsString], times: &mut Vec<(&'static str, Duration)>) -> anyhow::Result<()> {
    let mut stage = |name: &'static str, run: &dyn Fn() -> anyhow::Result<()>| {
        println!("== {name}");
        let start = Instant::now();
        let outcome = run();
        times.push((name, start.elapsed()));
        outcome.context(name)
    };
    stage("prerequisites", &|| {
        prerequisites::ensure(prerequisites::TEST)
            .and_then(|()| tools::ensure(tools::TEST))
            .and_then(|()| tools::ensure(tools::S3))
    })?;
    stage("format", &|| workspace::succeed(&mut workspace::cargo(["fmt", "--all", "--check"])))?;
    stage("check-deps", &arrows::check)?;
    stage("clippy", &|| workspace::succeed(&mut workspace::cargo(CLIPPY)))?;
    // Built apart, so that the minutes of the tests are those of the tests. The same units as `cargo test` below.
    stage("build", &|| {
        workspace::succeed(&mut workspace::cargo(["test", "--workspace", "--locked", "--no-run", "--quiet"]))
    })?;
    stage("tests", &|| run_tests(arguments))
}

const CLIPPY: [&str; 8] = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];

/// Runs the tests, and fails also when one is ignored or when there was none.
fn run_tests(arguments: &[OsString]) -> anyhow::Result<()> {
    let mut command = workspace::cargo(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if std::io::stdout().is_terminal() {
        command.arg("--color=always");
    }
    command.args(arguments).env("PATH", tools::path()?);
    let (counts, success) = count(&mut command, &mut std::io::stdout())?;
    println!("{} passed, {} failed, {} ignored", counts.passed, counts.failed, counts.ignored);
    if !success {
        bail!("{} failed", workspace::show(&command));
    }
    if counts.ignored > 0 {
        bail!("{} tests are ignored; a test runs, or it is removed", counts.ignored);
    }
    if counts.passed == 0 {
        bail!("no test ran; does the filter match any?");
    }
    Ok(())
}

/// Runs the command, passes its output on and adds up the results that libtest prints.
fn count(command: &mut Command, output: &mut impl Write) -> anyhow::Result<(Counts, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            output.write_all(&line)?;
            counts.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    Ok((counts, status.success()))
}

/// What libtest counted, over all binaries.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Takes in `test result: ok. 3 passed; 0 failed; 1 ignored; …`; any other line counts nothing.
    fn add(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (number, what) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next());
            match (number, what) {
                (Some(n), Some("passed")) => self.passed += n,
                (Some(n), Some("failed")) => self.failed += n,
                (Some(n), Some("ignored")) => self.ignored += n,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_ignored_tests_are_seen() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s\n");
        counts
            .add("test result: \u{1b}[31mFAILED\u{1b}[m. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n");
        counts.add("test sums::three passed; ... ok\n");
        assert_eq!(counts, Counts { passed: 7, failed: 2, ignored: 1 });
    }

    #[test]
    fn the_exit_of_the_tests_is_kept() {
        let shell = |script: &str| count(Command::new("sh").args(["-c", script]), &mut Vec::new()).unwrap();
        let (counts, success) = shell("echo 'test result: ok. 2 passed; 0 failed; 0 ignored;'; exit 1");
        assert_eq!((counts.passed, success), (2, false));
        assert!(shell("exit 0").1);
    }
}

//! `cargo xtask fuzz`: the fuzz targets beside the parsers, one after the other, each for a while, with what they have
//! found so far kept in `fuzz/corpus`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use toml::Value;

use crate::{prerequisites, workspace};

const CARGO_FUZZ: &str = "0.13.2";
const SECONDS: u64 = 600;
/// Longest input. A manifest may have 4 MiB, but what a parser does wrong shows in far less.
const INPUT_BYTES_MAX: u64 = 4_096;
/// Slowest input that is no finding, in seconds.
const INPUT_SECONDS_MAX: u64 = 5;
const MEMORY_MIB_MAX: u64 = 1_024;
/// What is kept of the corpus of one target: it is committed.
const CORPUS_BYTES_MAX: u64 = 160 << 10;
/// In so many files: of more, some of each length.
const CORPUS_FILES_MAX: usize = 256;

/// Runs the targets that are named, or all. Goes on after a finding, and fails in the end.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let asked = Asked::of(arguments)?;
    let targets = asked.targets(&all_targets()?)?;
    prerequisites::ensure(prerequisites::BUILD)?;
    let tool = Tool::ensure()?;
    let runs = targets.iter().map(|target| tool.run(target, asked.seconds));
    let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
    println!("{:<14} {:>8} {:>14} {:>10} {:>14}  outcome", "target", "seconds", "inputs", "per second", "corpus");
    runs.iter().for_each(Run::print);
    match runs.iter().filter(|run| !run.success).count() {
        0 => Ok(()),
        count => bail!("{count} of {} targets found something; see fuzz/artifacts", runs.len()),
    }
}

#[derive(Debug, PartialEq)]
struct Asked {
    names: Vec<String>,
    seconds: u64,
}

impl Asked {
    fn of(arguments: &[OsString]) -> anyhow::Result<Self> {
        let (mut names, mut seconds) = (Vec::new(), SECONDS);
        let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seconds" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    seconds = number.context("--seconds takes a number of seconds")?;
                }
                option if option.starts_with('-') => bail!("no such option: {option}; usage: {USAGE}"),
                _ => names.push(argument),
            }
        }
        Ok(Self { names, seconds })
    }

    fn targets(&self, all: &[String]) -> anyhow::Result<Vec<String>> {
        if let Some(unknown) = self.names.iter().find(|name| !all.contains(name)) {
            bail!("there is no target {unknown}; there are: {}", all.join(", "));
        }
        Ok(if self.names.is_empty() { all.to_vec() } else { self.names.clone() })
    }
}

const USAGE: &str = "cargo xtask fuzz [TARGET..] [--seconds 600]";

fn folder() -> PathBuf {
    workspace::root().join("fuzz")
}

/// The targets, as the manifest lists them.
fn all_targets() -> anyhow::Result<Vec<String>> {
    let path = folder().join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Value = toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let bins = manifest.get("bin").and_then(Value::as_array).context("fuzz/Cargo.toml lists no target")?;
    Ok(bins.iter().filter_map(|bin| bin.get("name")?.as_str().map(str::to_owned)).collect())
}

/// cargo-fuzz, in the pinned version.
struct Tool(PathBuf);

impl Tool {
    fn ensure() -> anyhow::Result<Self> {
        let root = workspace::binaries()?.parent().unwrap_or(Path::new(".")).join("tools");
        let tool = Self(root.join("bin/cargo-fuzz"));
        if tool.version().is_none_or(|version| version != CARGO_FUZZ) {
            println!("installing cargo-fuzz {CARGO_FUZZ}");
            let mut install =
                workspace::cargo(["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--force"]);
            workspace::succeed(install.arg("--quiet").arg("--root").arg(&root))?;
        }
        Ok(tool)
    }

    fn version(&self) -> Option<String> {
        let output = Command::new(&self.0).args(["fuzz", "--version"]).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().nth(1).map(str::to_owned)
    }

    /// Sanitizers want a nightly compiler; what the targets assert needs none, and Atoll has no unsafe code.
    fn command(&self, verb: &str, target: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["fuzz", verb, "--sanitizer", "none", "--fuzz-dir"]).arg(folder()).arg(target);
        command.current_dir(workspace::root()).stdin(Stdio::null());
        command
    }

    fn run(&self, target: &str, seconds: u64) -> anyhow::Result<Run> {
        println!("== {target}, {seconds} s");
        workspace::succeed(&mut self.command("build", target))?;
        let mut fuzz = self.command("run", target);
        fuzz.arg(corpus(target)).arg("--").args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
            "-print_final_stats=1".to_owned(),
        ]);
        let dictionary = folder().join(format!("dictionaries/{target}.dict"));
        if dictionary.is_file() {
            fuzz.arg(format!("-dict={}", dictionary.display()));
        }
        std::fs::create_dir_all(corpus(target)).context("cannot make the folder of the corpus")?;
        let start = Instant::now();
        let output = fuzz.stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
        let output = output.context("cannot run cargo-fuzz")?;
        let (text, time) = (String::from_utf8_lossy(&output.stderr).into_owned(), start.elapsed());
        let run = Run { target: target.to_owned(), inputs: inputs(&text), time, success: output.status.success() };
        if !run.success {
            // The end says what was found, and how to run it again.
            let lines: Vec<&str> = text.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            return Ok(run);
        }
        if run.inputs == 0 {
            bail!("{target} ran no input:\n{text}");
        }
        self.minimise(target)?;
        Ok(run)
    }

    /// Keeps of the corpus what reaches anything that the rest does not, as far as it fits.
    fn minimise(&self, target: &str) -> anyhow::Result<()> {
        let output = self.command("cmin", target).arg(corpus(target)).output().context("cannot run cargo-fuzz")?;
        if !output.status.success() {
            bail!("the corpus of {target} could not be minimised:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let (inputs, mut left) = (inputs_by_size(target)?, CORPUS_BYTES_MAX);
        let step = inputs.len().div_ceil(CORPUS_FILES_MAX).max(1);
        for (nth, (bytes, path)) in inputs.into_iter().enumerate() {
            match left.checked_sub(bytes).filter(|_| nth.is_multiple_of(step)) {
                Some(less) => left = less,
                None => std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?,
            }
        }
        Ok(())
    }
}

fn corpus(target: &str) -> PathBuf {
    folder().join("corpus").join(target)
}

fn inputs_by_size(target: &str) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let folder = std::fs::read_dir(corpus(target)).context("cannot list the corpus")?;
    let mut inputs = Vec::new();
    for entry in folder {
        let entry = entry?;
        inputs.push((entry.metadata()?.len(), entry.path()));
    }
    inputs.sort();
    Ok(inputs)
}

/// What libFuzzer says in the end of how many inputs it ran.
fn inputs(text: &str) -> u64 {
    let number = |line: &str| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok();
    text.lines().rev().find_map(number).unwrap_or(0)
}

struct Run {
    target: String,
    inputs: u64,
    time: Duration,
    success: bool,
}

impl Run {
    fn print(&self) {
        let seconds = self.time.as_secs_f64();
        let kept = inputs_by_size(&self.target).unwrap_or_default();
        let bytes: u64 = kept.iter().map(|(bytes, _)| bytes).sum();
        let outcome = if self.success { "nothing found" } else { "FINDING" };
        let corpus = format!("{} / {} KiB", kept.len(), bytes >> 10);
        let rate = self.inputs as f64 / seconds.max(0.001);
        println!("{:<14} {seconds:>8.0} {:>14} {rate:>10.0} {corpus:>14}  {outcome}", self.target, self.inputs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> anyhow::Result<Asked> {
        Asked::of(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn targets_and_seconds_are_read() {
        let all = ["digest".to_owned(), "key".to_owned()];
        assert_eq!(asked(&[]).unwrap().targets(&all).unwrap(), all);
        let one = asked(&["key", "--seconds", "30"]).unwrap();
        assert_eq!((one.targets(&all).unwrap(), one.seconds), (vec!["key".to_owned()], 30));
        assert!(asked(&["keys"]).unwrap().targets(&all).unwrap_err().to_string().contains("digest, key"));
        assert!(asked(&["--seconds", "soon"]).is_err() && asked(&["--fast"]).is_err());
    }

    #[test]
    fn every_target_has_its_file_and_a_corpus() {
        for target in all_targets().unwrap() {
            assert!(folder().join(format!("fuzz_targets/{target}.rs")).is_file(), "{target}");
            assert!(!inputs_by_size(&target).unwrap().is_empty(), "{target} begins with nothing");
        }
    }

    #[test]
    fn the_count_of_inputs_is_found() {
        let text = "#1\tINITED\nstat::number_of_executed_units: 1234\nstat::peak_rss_mb: 40\n";
        assert_eq!((inputs(text), inputs("")), (1_234, 0));
    }
}

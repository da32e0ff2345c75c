//! A server's process and those that it started: ended with the value, and read from /proc.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to end by itself.
const END_WAIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// Ticks of the processor time in /proc: fixed by the kernel's interface, whatever the clock of the machine.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;
const KIB_PER_MIB: f64 = 1024.0;

/// A process tree of one command.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The command is run by strace, which is none of the server.
    traced: bool,
}

/// What a server has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    /// Of the process that had most, since it began or since [`Process::forget_peak`].
    pub(crate) peak_mib: f64,
}

impl Process {
    /// Starts the command with its output in a file. With `trace`, the calls that sync are written to that file.
    pub(crate) fn start(command: &[&str], output: &Path, trace: Option<&Path>) -> anyhow::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(output)
            .with_context(|| format!("cannot write {}", output.display()))?;
        let words: Vec<String> = match trace {
            Some(file) => crate::fsyncs::traced(command, file),
            None => command.iter().map(|&word| word.to_owned()).collect(),
        };
        let mut prepared = Command::new(&words[0]);
        // The other end of standard input closes with this process, however it ends: `--die-with-parent` waits for it.
        prepared.args(&words[1..]).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        prepared.env("OTEL_TRACES_EXPORTER", "none");
        let child = prepared.spawn().with_context(|| format!("cannot run {}", words[0]))?;
        Ok(Self { child, traced: trace.is_some() })
    }

    /// Fails when the command has ended by itself.
    pub(crate) fn check_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended: {status}");
        }
        Ok(())
    }

    fn root(&self) -> u32 {
        let child = self.child.id();
        if self.traced { children(child).first().copied().unwrap_or(child) } else { child }
    }

    /// All processes of the server.
    fn pids(&self) -> BTreeSet<u32> {
        let (mut found, mut next) = (BTreeSet::new(), vec![self.root()]);
        while let Some(pid) = next.pop() {
            if found.insert(pid) {
                next.extend(children(pid));
            }
        }
        found
    }

    pub(crate) fn usage(&self) -> Usage {
        let pids = self.pids();
        let cpu_seconds = pids.iter().map(|pid| cpu_seconds(*pid)).sum();
        let peak_mib = pids.iter().map(|pid| status_mib(*pid, "VmHWM:")).fold(0.0, f64::max);
        Usage { cpu_seconds, peak_mib }
    }

    /// What is resident now, of all processes of the server.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.pids().iter().map(|pid| status_mib(*pid, "VmRSS:")).sum()
    }

    /// Begins a new peak of resident memory.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        for pid in self.pids() {
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
                .with_context(|| format!("cannot reset VmHWM of {pid}"))?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.root()).ok().and_then(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends the server as a crash does: it gets to do nothing more. Returns when it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().context("the server cannot be waited for")?;
        Ok(())
    }

    /// Ends the server; returns when it is gone.
    pub(crate) fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            // It is gone: its number may be another's by now.
            return;
        }
        self.signal(Signal::TERM);
        let start = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            if start.elapsed() > END_WAIT {
                self.signal(Signal::KILL);
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|text| text.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Of a process that runs; none that it waited for.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat_ticks(&stat)[..2].iter().sum::<f64>() / TICKS_PER_SECOND
}

/// Of this process and all that it started and that have ended: the generators.
pub(crate) fn own_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    stat_ticks(&stat).iter().sum::<f64>() / TICKS_PER_SECOND
}

/// utime, stime, cutime, cstime of a line of /proc/PID/stat, whose second field may hold anything.
fn stat_ticks(stat: &str) -> [f64; 4] {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(0.0));
    std::array::from_fn(|_| fields.next().unwrap_or(0.0))
}

fn status_mib(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / KIB_PER_MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 30 20 20 0 9 0 100 1000 10";
        assert_eq!(stat_ticks(stat), [250.0, 50.0, 30.0, 20.0]);
        assert_eq!(stat_ticks(""), [0.0; 4]);
    }

    #[test]
    fn this_process_is_resident() {
        assert!(status_mib(std::process::id(), "VmRSS:") > 1.0);
    }

    #[test]
    fn what_is_killed_is_gone_at_once_whatever_it_does_about_signals() {
        let temp = tempfile::tempdir().unwrap();
        let command = ["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"];
        let mut process = Process::start(&command, &temp.path().join("out"), None).unwrap();
        let start = Instant::now();
        process.kill().unwrap();
        assert!(!Path::new(&format!("/proc/{}", process.root())).exists());
        drop(process);
        assert!(start.elapsed() < END_WAIT);
    }

    #[test]
    fn a_tree_is_seen_whole_and_ends_with_the_value() {
        let temp = tempfile::tempdir().unwrap();
        let mut process = Process::start(&["sh", "-c", "sleep 60 & wait"], &temp.path().join("out"), None).unwrap();
        let start = Instant::now();
        while process.pids().len() < 2 {
            assert!(start.elapsed() < END_WAIT);
            std::thread::sleep(POLL);
        }
        let pids = process.pids();
        process.check_runs().unwrap();
        drop(process);
        let shell = pids.first().unwrap();
        assert!(!Path::new(&format!("/proc/{shell}")).exists());
    }
}

//! `cargo xtask dev`: what `atoll dev` needs, and then `atoll dev` itself, in this very process.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{prerequisites, tools, workspace};

/// The whole workspace and one of its tests are selected so that every dependency has the features that it has in
/// `cargo test --workspace`. Otherwise what `dev` builds, the tests build again: a third of all crates.
const BUILD: [&str; 8] = ["build", "--quiet", "--workspace", "--locked", "--bin", "atoll", "--test", "process"];

/// How long the nodes of a supervisor that was killed may take to end.
const KILLED_NODES_WAIT: Duration = Duration::from_secs(10);
const PORTS_POLL: Duration = Duration::from_millis(50);

/// Refuses occupied ports, installs, builds, and becomes `atoll dev`.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let asked = Asked::of(arguments);
    if asked.verb
        && let Some(running) = asked.installed_binary()
    {
        // The cluster that runs has its own binary, and its supervisor is what is asked.
        return become_dev(&running, arguments);
    }
    if !asked.verb && !asked.help {
        let killed = asked.data_folder().is_some_and(|folder| supervisor_was_killed(&folder));
        refuse_occupied(asked.topology.as_deref(), if killed { KILLED_NODES_WAIT } else { Duration::ZERO })?;
    }
    prerequisites::ensure(prerequisites::BUILD)?;
    workspace::succeed(&mut workspace::cargo(BUILD))?;
    if asked.s3 {
        tools::ensure(tools::S3)?;
    }
    become_dev(&workspace::binaries()?.join("atoll"), arguments)
}

/// The process stays the same, so that whoever started it can signal the supervisor.
fn become_dev(binary: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    let error = Command::new(binary).arg("dev").args(arguments).env("PATH", tools::path()?).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}

/// What must be known of the arguments before `atoll` is there to read them.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    topology: Option<PathBuf>,
    data: Option<PathBuf>,
    /// `start`, `stop` or `restart`: nothing is to be started here.
    verb: bool,
    help: bool,
    /// S3 servers are to be run.
    s3: bool,
}

impl Asked {
    fn of(arguments: &[OsString]) -> Self {
        let mut asked = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_string_lossy();
            let (name, value) = text.split_once('=').map_or((&*text, None), |(n, v)| (n, Some(OsString::from(v))));
            match name {
                "--topology" => asked.topology = value.or_else(|| rest.next().cloned()).map(PathBuf::from),
                "--data" => asked.data = value.or_else(|| rest.next().cloned()).map(PathBuf::from),
                "--node" | "--output" if value.is_none() => drop(rest.next()),
                "--store" => asked.s3 = value.or_else(|| rest.next().cloned()).is_some_and(|store| store == "s3"),
                "-h" | "--help" => asked.help = true,
                _ => asked.verb |= !name.starts_with('-'),
            }
        }
        asked
    }

    /// The binary that the cluster in the data folder runs.
    fn installed_binary(&self) -> Option<PathBuf> {
        Some(self.data_folder()?.join("bin/atoll")).filter(|binary| binary.is_file())
    }

    fn data_folder(&self) -> Option<PathBuf> {
        self.data.clone().or_else(|| {
            let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
            let user = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
            Some(user.join("atoll/dev"))
        })
    }
}

/// Whether the supervisor of a data folder went without ending its nodes: its socket is there, and nobody answers.
fn supervisor_was_killed(folder: &Path) -> bool {
    let refused = |socket| UnixStream::connect(socket).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    refused(folder.join("dev.sock"))
}

/// A build takes minutes: a port that is taken is told before it, when it is not free within `wait`.
fn refuse_occupied(topology: Option<&Path>, wait: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + wait;
    while let Err(refused) = check_ports(topology) {
        if Instant::now() >= until {
            return Err(refused);
        }
        std::thread::sleep(PORTS_POLL);
    }
    Ok(())
}

fn check_ports(topology: Option<&Path>) -> anyhow::Result<()> {
    let default = workspace::root().join("cluster/three-regions.toml");
    let file = topology.unwrap_or(&default);
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let taken: Vec<String> = addresses(&text)
        .iter()
        .filter_map(|address| TcpListener::bind(address).err().map(|error| format!("{address}: {error}")))
        .collect();
    if !taken.is_empty() {
        bail!(
            "cannot listen on {}; end what listens there (another `dev`?), or give other addresses with --topology",
            taken.join(", ")
        );
    }
    Ok(())
}

/// All addresses of a topology. What is wrong with it otherwise, `atoll dev` tells better.
fn addresses(topology: &str) -> Vec<SocketAddr> {
    let table: toml::Table = topology.parse().unwrap_or_default();
    let nodes = table.get("node").and_then(toml::Value::as_array).into_iter().flatten();
    nodes
        .flat_map(|node| ["http", "grpc", "admin"].map(|key| node.get(key).and_then(toml::Value::as_str)))
        .filter_map(|address| address?.parse().ok())
        .collect()
}

/// Whether a program can be found.
pub(crate) fn on_path(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name.as_ref())).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        Asked::of(&line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_arguments_that_matter_before_the_build_are_found() {
        assert_eq!(asked(""), Asked::default());
        let verb = Asked { data: Some("/d".into()), verb: true, ..Asked::default() };
        assert_eq!(asked("--data /d stop us-east-1"), verb);
        assert_eq!(asked("restart --output json us-east-1 --data=/d"), verb);
        let start = Asked { data: Some("/d".into()), topology: Some("t.toml".into()), ..Asked::default() };
        assert_eq!(asked("--topology=t.toml --data /d"), start);
        assert!(asked("--help").help);
        assert_eq!(asked("--store s3"), Asked { s3: true, ..Asked::default() });
        assert_eq!(asked("--store=fs"), Asked::default());
    }

    #[test]
    fn all_nine_addresses_of_the_default_are_looked_at() {
        let file = workspace::root().join("cluster/three-regions.toml");
        let mut ports: Vec<u16> =
            addresses(&std::fs::read_to_string(file).unwrap()).iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [5001, 5002, 5003, 7001, 7002, 7003, 9001, 9002, 9003]);
    }

    #[test]
    fn an_occupied_port_is_named() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("t.toml");
        std::fs::write(&file, format!("[[node]]\nhttp = \"{}\"", held.local_addr().unwrap())).unwrap();
        let refusal = refuse_occupied(Some(&file), Duration::ZERO).unwrap_err().to_string();
        assert!(refusal.contains(&held.local_addr().unwrap().to_string()), "{refusal}");
        drop(held);
        refuse_occupied(Some(&file), Duration::ZERO).unwrap();
    }

    #[test]
    fn nodes_of_a_killed_supervisor_are_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        assert!(!supervisor_was_killed(temp.path()));
        let socket = std::os::unix::net::UnixListener::bind(temp.path().join("dev.sock")).unwrap();
        assert!(!supervisor_was_killed(temp.path()));
        drop(socket);
        assert!(supervisor_was_killed(temp.path()));
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = temp.path().join("t.toml");
        std::fs::write(&file, format!("[[node]]\nhttp = \"{}\"", held.local_addr().unwrap())).unwrap();
        let waiting = std::thread::spawn(move || refuse_occupied(Some(&file), KILLED_NODES_WAIT));
        drop(held);
        waiting.join().unwrap().unwrap();
    }
}

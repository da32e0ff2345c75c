//! The servers under test, each with its own data folder and ports of loopback of its own.

mod atoll;
mod distribution;
mod nginx;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::http::Client;
use crate::process::{Process, Usage};

/// How long a server may take until it is ready.
pub(crate) const READY_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Atoll, one region of one node.
    AtollOne,
    /// Atoll, three regions of one node each; clients go to the first.
    AtollThree,
    /// distribution v3.1.2: files, in-memory cache.
    Distribution,
    /// Debian's docker-registry 2.8.2: files, in-memory cache.
    DockerRegistry,
    /// nginx with static files: the limit.
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::AtollOne, Self::AtollThree, Self::Distribution, Self::DockerRegistry, Self::Nginx];

    /// Whether it takes pushes.
    pub(crate) fn takes_pushes(self) -> bool {
        self != Self::Nginx
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |v| v.get_name()))
    }
}

/// The programs that are run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The `atoll` to measure
    #[arg(long, value_name = "FILE", env = "ATOLL_BENCH_ATOLL", default_value = "target/release/atoll")]
    pub(crate) atoll: PathBuf,
    /// distribution's `registry`
    #[arg(long, value_name = "FILE", env = "ATOLL_BENCH_DISTRIBUTION", default_value = "target/tools/bin/registry")]
    pub(crate) distribution: PathBuf,
    /// Debian's `docker-registry`
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/docker-registry")]
    pub(crate) docker_registry: PathBuf,
    /// `nginx`
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/nginx")]
    pub(crate) nginx: PathBuf,
}

impl Programs {
    /// What each says of its version.
    pub(crate) fn versions(&self, kinds: &[Kind]) -> BTreeMap<Kind, String> {
        kinds.iter().map(|kind| (*kind, self.version(*kind))).collect()
    }

    fn version(&self, kind: Kind) -> String {
        let (program, argument) = match kind {
            Kind::AtollOne | Kind::AtollThree => (&self.atoll, "--version"),
            Kind::Distribution => return "v3.1.2".to_owned(),
            Kind::DockerRegistry => (&self.docker_registry, "--version"),
            Kind::Nginx => (&self.nginx, "-v"),
        };
        let output = std::process::Command::new(program).arg(argument).output();
        let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// Where clients reach its nodes; measured is the first.
    pub(crate) http: Vec<SocketAddr>,
    /// Where operators reach them; empty for peers.
    pub(crate) admin: Vec<SocketAddr>,
    pub(crate) folder: PathBuf,
    /// The command line that asks its nodes; of Atoll alone.
    pub(crate) cli: PathBuf,
    processes: Vec<Process>,
}

/// How a process of a server is started.
struct Launch<'a> {
    command: Vec<String>,
    /// A file beside its data.
    output: &'a str,
}

impl Server {
    /// Starts a server on a folder, which may hold what it stored before, and waits until it is ready. With `traced`,
    /// its syncs are written to `trace.N` in the folder, for each of its nodes.
    pub(crate) async fn start(kind: Kind, folder: &Path, programs: &Programs, traced: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut server = Self {
            kind,
            http: Vec::new(),
            admin: Vec::new(),
            folder: folder.to_owned(),
            cli: programs.atoll.clone(),
            processes: Vec::new(),
        };
        let launches = match kind {
            Kind::AtollOne => atoll::prepare(&mut server, programs, 1),
            Kind::AtollThree => atoll::prepare(&mut server, programs, 3),
            Kind::Distribution => distribution::prepare(&mut server, &programs.distribution),
            Kind::DockerRegistry => distribution::prepare(&mut server, &programs.docker_registry),
            Kind::Nginx => nginx::prepare(&mut server, &programs.nginx),
        }?;
        for (number, launch) in launches.iter().enumerate() {
            let command: Vec<&str> = launch.command.iter().map(String::as_str).collect();
            let trace = traced.then(|| server.trace(number));
            let process = Process::start(&command, &folder.join(launch.output), trace.as_deref());
            server.processes.push(process.with_context(|| format!("{kind} does not start"))?);
        }
        server.wait_ready().await?;
        Ok(server)
    }

    /// The file that a node's syncs are written to.
    pub(crate) fn trace(&self, node: usize) -> PathBuf {
        self.folder.join(format!("trace.{node}"))
    }

    pub(crate) fn nodes(&self) -> usize {
        self.processes.len()
    }

    /// Stores the content that pulls ask for: by push, or as files where nothing can be pushed.
    pub(crate) async fn load(&self, content: &Content) -> anyhow::Result<()> {
        let loaded = match self.kind {
            Kind::Nginx => nginx::load(&self.folder, content),
            _ => crate::push::load(self.http[0], content).await,
        };
        loaded.with_context(|| format!("loading {}", self.kind))
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let path = match self.kind {
            Kind::AtollOne | Kind::AtollThree => "/readyz?for=push",
            Kind::Distribution | Kind::DockerRegistry => "/v2/",
            Kind::Nginx => "/ready",
        };
        let start = Instant::now();
        for address in self.http.clone() {
            while status(address, path).await != Some(StatusCode::OK) {
                for process in &mut self.processes {
                    process.check_runs().with_context(|| format!("{}; see {}", self.kind, self.folder.display()))?;
                }
                if start.elapsed() > READY_WAIT {
                    bail!("{} is not ready within {READY_WAIT:?}; see {}", self.kind, self.folder.display());
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Of all its processes.
    pub(crate) fn usage(&self) -> Usage {
        self.processes.iter().map(Process::usage).fold(Usage::default(), |all, one| Usage {
            cpu_seconds: all.cpu_seconds + one.cpu_seconds,
            peak_mib: all.peak_mib.max(one.peak_mib),
        })
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        self.processes.iter().map(Process::resident_mib).sum()
    }

    /// Ends all its processes as a crash of them does.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Process::kill)
    }

    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        self.processes.iter().try_for_each(Process::forget_peak)
    }
}

/// The status of a GET; `None` while nothing answers.
async fn status(address: SocketAddr, path: &str) -> Option<StatusCode> {
    Some(Client::connect(address).await.ok()?.get(path).await.ok()?.status)
}

/// Addresses of loopback that nothing listens on, below the range that the system takes clients' ports from.
fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    const RANGE: std::ops::Range<u16> = 16_000..32_000;
    let mut found = Vec::new();
    for _ in 0..RANGE.len() {
        let port = rand::RngExt::random_range(&mut rand::rng(), RANGE);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if !found.contains(&address) && TcpListener::bind(address).is_ok() {
            found.push(address);
        }
        if found.len() == count {
            return Ok(found);
        }
    }
    bail!("no {count} free ports on loopback in {RANGE:?}")
}

/// Writes a file of the server's folder and yields its path as text.
fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<String> {
    let file = folder.join(name);
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file.display().to_string())
}

//! A cluster for a test: `atoll dev` on free ports and a temporary folder, ended with the test, its logs printed when
//! the test failed.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take here: far more than it takes, so that a busy machine fails no test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The regions of a cluster, each with one node whose name has `-1` after it.
pub(crate) const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];

/// The binary under test.
pub(crate) fn atoll() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atoll"));
    command.stdin(Stdio::null());
    command
}

/// Waits until `condition` yields something, and panics with `what` when that takes too long.
pub(crate) fn wait_for<T>(what: impl Debug, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what:?}");
        std::thread::sleep(POLL);
    }
}

/// Whether something listens.
pub(crate) fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, DEADLINE).is_ok()
}

/// An address of this machine that nothing listens on. They are handed out in ascending order below the range that
/// the system takes ports of clients from, so that neither a connection nor another test takes one meanwhile.
pub(crate) fn free_address() -> SocketAddr {
    use std::sync::atomic::{AtomicU16, Ordering};
    const FIRST: u16 = 10_240;
    const LAST: u16 = 32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at once begin at places of their own.
    let offset = (std::process::id() % 200) as u16 * 100;
    wait_for("a free port", || {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % (LAST - FIRST);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpListener::bind(address).is_ok().then_some(address)
    })
}

/// A node of a [`Cluster`].
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name, such as `us-east-1`.
    pub(crate) name: String,
    /// Its region.
    pub(crate) region: &'static str,
    /// Where container clients reach it.
    pub(crate) http: SocketAddr,
    /// Where other nodes reach it.
    pub(crate) grpc: SocketAddr,
    /// Where operators reach it.
    pub(crate) admin: SocketAddr,
}

/// `atoll dev` with three regions of one node each. Dropped, it ends.
pub(crate) struct Cluster {
    /// Its nodes, in the order of [`REGIONS`].
    pub(crate) nodes: Vec<Node>,
    folder: tempfile::TempDir,
    supervisor: Option<Child>,
}

impl Cluster {
    /// A cluster that is not started yet. `extra` is added to its topology: sections such as `[reads]`.
    pub(crate) fn prepare(extra: &str) -> Self {
        let nodes = REGIONS.map(|region| Node {
            name: format!("{region}-1"),
            region,
            http: free_address(),
            grpc: free_address(),
            admin: free_address(),
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cluster = Self { nodes: nodes.into(), folder, supervisor: None };
        std::fs::write(cluster.topology(), cluster.topology_text(extra)).expect("the topology is written");
        cluster
    }

    /// A cluster that is up: every node takes pushes.
    pub(crate) fn start() -> Self {
        let mut cluster = Self::prepare("");
        cluster.up();
        cluster
    }

    fn topology_text(&self, extra: &str) -> String {
        let node = |n: &Node| {
            let Node { name, region, http, grpc, admin } = n;
            format!(
                "[[node]]\nname = \"{name}\"\nregion = \"{region}\"\nhttp = \"{http}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n"
            )
        };
        // How full the disk of this machine is must decide nothing.
        let disk = if extra.contains("[disk]") { "" } else { "[disk]\nrefuse_below_percent = 0\n" };
        format!("{}{disk}{extra}", self.nodes.iter().map(node).collect::<String>())
    }

    /// Starts the supervisor and returns once every node takes pushes.
    pub(crate) fn up(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts the supervisor; nothing need listen yet.
    pub(crate) fn spawn(&mut self) {
        assert!(self.supervisor.is_none(), "it runs already");
        let output = File::options().create(true).append(true).open(self.output_file()).expect("the output file");
        let child = self
            .dev(&[])
            .stdout(output.try_clone().expect("one more handle of the output file"))
            .stderr(output)
            .spawn()
            .expect("`atoll dev` starts");
        self.supervisor = Some(child);
    }

    /// Waits until every node takes pushes.
    pub(crate) fn wait_ready(&mut self) {
        for node in self.nodes.clone() {
            wait_for(format!("{} takes pushes", node.name), || {
                let ended = self.supervisor.as_mut().and_then(|child| child.try_wait().expect("it can be waited for"));
                assert!(ended.is_none(), "`atoll dev` ended: {ended:?}\n{}", self.output());
                (get(node.http, "/readyz?for=push").is_some_and(|(status, _)| status == 200)).then_some(())
            });
        }
    }

    /// `atoll dev` of this cluster with more arguments, ready to run.
    pub(crate) fn dev(&self, arguments: &[&str]) -> Command {
        let mut command = atoll();
        command.arg("dev").arg("--data").arg(self.data()).arg("--topology").arg(self.topology()).args(arguments);
        command
    }

    /// `start`, `stop` or `restart` of a node; panics when it fails.
    pub(crate) fn node(&self, verb: &str, name: &str) {
        let output = self.dev(&[verb, name]).output().expect("`atoll dev` runs");
        assert!(output.status.success(), "{verb} {name}: {}", text(&output));
    }

    /// The command line's answer, asked of a node, as JSON; panics when it fails.
    pub(crate) fn ask(&self, node: usize, arguments: &[&str]) -> serde_json::Value {
        let output = self.try_ask(node, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The command line, asked of a node, however it ends.
    pub(crate) fn try_ask(&self, node: usize, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.nodes[node].admin);
        atoll().args(["--node", &url, "--output", "json"]).args(arguments).output().expect("`atoll` runs")
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn topology(&self) -> PathBuf {
        self.folder.path().join("topology.toml")
    }

    fn output_file(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// All that the supervisor has printed.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    /// The process of a node.
    pub(crate) fn pid(&self, name: &str) -> Pid {
        let file = self.data().join(name).join("pid");
        let number = std::fs::read_to_string(file).expect("a pid file").trim().parse().expect("a number");
        Pid::from_raw(number).expect("a pid")
    }

    /// Sends a signal to a node, past the supervisor. One that stops has stopped every thread on return: until then a
    /// thread that runs on another core can still answer.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        let pid = self.pid(name);
        kill_process(pid, signal).expect("the node runs");
        if signal == Signal::STOP {
            wait_for(format!("{name} is stopped"), || threads(pid).iter().all(|&state| state == 'T').then_some(()));
        }
    }

    /// Sends a signal to the supervisor and waits for its end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.supervisor.take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).expect("the supervisor runs");
        wait_for("the supervisor ends", || child.try_wait().expect("it can be waited for"))
    }

    fn print_logs(&self) {
        eprintln!("--- output of `atoll dev`\n{}", tail(&self.output_file()));
        for node in &self.nodes {
            eprintln!("--- log of {}\n{}", node.name, tail(&self.data().join(&node.name).join("log")));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        // The nodes die with it; that they do is tested too.
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last 16 KiB of a file.
fn tail(file: &Path) -> String {
    const TAIL_BYTES: usize = 16 << 10;
    let bytes = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned()
}

/// What a command printed, both ways.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Whether a process is there and has not ended. (One that nobody has waited for yet has ended.)
pub(crate) fn is_alive(pid: Pid) -> bool {
    threads(pid).iter().any(|state| !['Z', 'X'].contains(state))
}

/// The state of each thread of a process (proc_pid_stat(5)). The first may be a zombie while others still run.
fn threads(pid: Pid) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let stats = tasks.into_iter().flatten().flatten().map(|task| std::fs::read_to_string(task.path().join("stat")));
    stats.flatten().filter_map(|stat| stat.rsplit(") ").next()?.chars().next()).collect()
}

/// The status and body of a GET; `None` when there is no answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<(u16, Vec<u8>)> {
    request(address, "GET", path, &[], &[])
}

/// The status and body of a request; `None` when there is no answer. Good for small, unchunked answers.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..head_end]).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(head_end + 4)))
}

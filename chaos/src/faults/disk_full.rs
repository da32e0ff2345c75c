//! Disks that are full, with and without the marks that have a node refuse and end before they are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt as _;

use super::words::Words;
use super::{Fault, Scene};
use crate::cluster::{NotBack, READY_WAIT};
use crate::content::Blob;
use crate::wait::wait_for;

/// Parts of a node that meet a full disk. The first is the hardest to bring there.
pub(super) const PARTS: [&str; 4] = ["snapshot", "log", "state", "blobs"];
/// Their folders below the data folder, in the same order.
const FOLDERS: [&str; 4] = ["snapshots", "log", "state", "blobs"];
/// What the operating system says, in logs and in answers.
const FULL: &str = "No space left";

/// What a node does about the marks that it has by default.
pub(super) const LOW: [&str; 2] = ["refuses", "ends"];
/// What it answers to a push that it refuses by its marks.
const REFUSED: &str = "takes more again above";
/// What it says when it ends by them.
const ENDED: &str = "to run: free some there";

/// What the nodes of the run are configured with, at the end of `[raft]`, behind which another section may begin: no marks
/// at all (the product takes 0 for each), so that what is written is written until the disk is full, and a snapshot
/// every second or two. The log goes far back, for a node whose disk is full cannot be sent a snapshot.
pub(crate) const SETTINGS: &str = "snapshot_every = 40\n\
                                   [disk]\nrefuse_below_percent = 0\nresume_above_percent = 0\nstop_below_bytes = 0\n";
/// The section in it that a node with default marks lacks.
const MARKS: &str = "disk";

/// Attempts to bring a part to its full disk: which one is the first to find no room is chance.
const ATTEMPTS: usize = 4;
/// How long it may take until something is written there.
const MEETS_WITHIN: Duration = Duration::from_secs(20);
/// Enough for a start, and not for what RocksDB reserves for a new write-ahead log.
const TIGHT_BYTES: u64 = 1 << 20;
/// What becomes free is taken so soon that hardly anybody else gets it.
const HOLD_EVERY: Duration = Duration::from_millis(1);
const CHUNK_BYTES: u64 = 64 << 10;
/// Between the mark at which a node of this run refuses by default, a tenth of its 400 MiB, and the one at which it ends,
/// a twentieth.
const REFUSES_BYTES: u64 = 34 << 20;
/// What may be left where it ends: nothing, a little, or enough for the log but not for a blob.
const ENDS_BYTES: [u64; 3] = [0, 100_000, 1_000_000];
/// So long it is ready, if it means to go on.
const STAYS: Duration = Duration::from_secs(1);
const PROBE_BYTES: usize = 3_000;
const REPOSITORY: &str = "disk/full";
const NO_DISK: &str = "the run has no small disks";

/// A node's disk is full for a while, to its last byte. The node may end; nobody may lose what was acknowledged.
pub(super) fn fill(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let due = scene.due(Fault::DiskFull, &PARTS)?;
    let mut seen = BTreeSet::new();
    for _ in 0..ATTEMPTS {
        seen.extend(fill_once(scene, node, due)?);
        if seen.contains(due) {
            break;
        }
    }
    if seen.is_empty() {
        scene.missed(format!("nothing of node {node} has met its full disk"));
    }
    seen.into_iter().for_each(|part| scene.met(part));
    Ok(())
}

/// Fills it, waits until a part has met that, and empties it: which parts did.
fn fill_once(scene: &mut Scene<'_>, node: usize, due: &'static str) -> anyhow::Result<BTreeSet<&'static str>> {
    let mut met = Met::from_now(scene, node);
    // A log whose file is begun has room reserved. It finds none at a start, which writes what it had in memory; and a
    // state that was started where none can be reserved finds none at its next page.
    let (stopped, leave_bytes) = match due {
        "log" => (true, 0),
        "state" => (true, TIGHT_BYTES),
        _ => (false, 0),
    };
    if stopped {
        scene.cluster.kill(node)?;
    }
    scene.cluster.disk(node).context(NO_DISK)?.fill(leave_bytes)?;
    let (disk, left) = (scene.cluster.desk.nodes[node].disk(), AtomicU64::new(leave_bytes));
    while_held(&disk, &left, || {
        if stopped {
            scene.cluster.start_node(node, &[])?;
            wait_until_up(scene, node);
            left.store(0, Ordering::Relaxed);
        }
        met.wait(scene, due);
        anyhow::Ok(())
    })??;
    scene.cluster.disk(node).context(NO_DISK)?.empty()?;
    met.look(scene);
    decide(scene, node)?;
    Ok(met.parts)
}

/// Whether it comes up, or ends: both may be.
fn wait_until_up(scene: &mut Scene<'_>, node: usize) {
    let client = scene.cluster.client(node);
    let up = wait_for("a node on a nearly full disk is up", MEETS_WITHIN, || {
        (client.ready() || !scene.cluster.is_alive(node)).then_some(())
    });
    if let Err(error) = up {
        println!("  node {node}: {error:#}");
    }
}

/// A node that could not write its log ends, now or when it notices. It is started again.
fn decide(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
    let client = scene.cluster.client(node);
    let (mut ended, mut since) = (false, None);
    wait_for("a node whose disk was full decides", READY_WAIT, || {
        ended = scene.cluster.ended(node).is_some();
        since = client.ready().then(|| since.unwrap_or_else(Instant::now));
        (ended || since.is_some_and(|since: Instant| since.elapsed() > STAYS)).then_some(())
    })
    .map_err(|error| NotBack(format!("node {node}: {error:#}\n{}", scene.cluster.log_tail(node))))?;
    if ended {
        scene.cluster.start_node(node, &[])?;
    }
    scene.cluster.wait_node_ready(node)
}

/// What of a node has met its full disk.
struct Met {
    node: usize,
    words: Words,
    data: PathBuf,
    parts: BTreeSet<&'static str>,
}

impl Met {
    fn from_now(scene: &Scene<'_>, node: usize) -> Self {
        let (words, data) = (Words::from_now(scene, node), scene.cluster.desk.nodes[node].data());
        Self { node, words, data, parts: BTreeSet::new() }
    }

    /// Waits until a part has, or the node has ended, and lets others meet it, too.
    fn wait(&mut self, scene: &mut Scene<'_>, due: &str) {
        let waited = wait_for("a full disk is met", MEETS_WITHIN, || {
            self.look(scene);
            (self.parts.contains(due) || !scene.cluster.is_alive(self.node)).then_some(())
        });
        if waited.is_ok() {
            scene.last(500, 2_500);
        }
    }

    /// Looks at what the node has said, and pushes a blob until one is refused.
    fn look(&mut self, scene: &mut Scene<'_>) {
        let said = self.words.fresh();
        self.parts.extend(said.lines().flat_map(|line| parts_of(line, &self.data)));
        if !self.parts.contains("blobs") && scene.cluster.is_alive(self.node) && push(scene, self.node).contains(FULL) {
            self.parts.insert("blobs");
        }
    }
}

/// The parts that a line tells of: a snapshot that cannot be made because the state cannot be written is both.
fn parts_of(line: &str, data: &Path) -> impl Iterator<Item = &'static str> {
    let of = |folder: &str| line.contains(&*data.join(folder).to_string_lossy());
    let (is_full, is_snapshot) = (line.contains(FULL), line.contains("make a snapshot"));
    let told = FOLDERS.map(|folder| is_full && (of(folder) || (folder == "snapshots" && is_snapshot)));
    PARTS.into_iter().zip(told).filter_map(|(part, told)| told.then_some(part))
}

/// What is answered to the push of a blob.
fn push(scene: &Scene<'_>, node: usize) -> String {
    let (start, blob) = (scene.world.recorder.now(), Blob::new(scene.world.seed(), PROBE_BYTES));
    let reply = scene.cluster.client(node).push_blob(REPOSITORY, &blob.content());
    scene.world.blob_pushed(node, REPOSITORY, &blob, start, &reply);
    reply.text()
}

/// Does something while all that becomes free on a disk is taken, but for so many bytes: a file that RocksDB gives back
/// would make room for seconds.
fn while_held<T>(disk: &Path, leave_bytes: &AtomicU64, work: impl FnOnce() -> T) -> anyhow::Result<T> {
    let (brim, stop) = (disk.join("brim"), AtomicBool::new(false));
    let mut file = File::options().append(true).create(true).open(&brim).context("cannot fill a disk to its brim")?;
    take_what_is_free(disk, &mut file, leave_bytes);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                take_what_is_free(disk, &mut file, leave_bytes);
                std::thread::sleep(HOLD_EVERY);
            }
        });
        let _stops = Stops(&stop);
        work()
    });
    std::fs::remove_file(&brim).context("cannot give the rest of a disk back")?;
    Ok(done)
}

/// Sets a flag at its end, however that comes.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Until nothing is left, or somebody was faster.
fn take_what_is_free(disk: &Path, file: &mut File, leave_bytes: &AtomicU64) {
    let chunk = [0; CHUNK_BYTES as usize];
    loop {
        let free = rustix::fs::statvfs(disk).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        let over = free.saturating_sub(leave_bytes.load(Ordering::Relaxed)).min(CHUNK_BYTES);
        if over == 0 || file.write_all(&chunk[..over as usize]).is_err() {
            return;
        }
    }
}

/// A node with the marks that it has by default refuses pushes while its disk is nearly full, and ends when it is fuller,
/// while there is still room to start again.
pub(super) fn low(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let config = scene.cluster.desk.nodes[node].config();
    let without_marks = std::fs::read_to_string(&config).context("cannot read a configuration")?;
    scene.cluster.kill(node)?;
    std::fs::write(&config, with_default_marks(&without_marks)?).context("cannot write a configuration")?;
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)?;
    if is_refused(scene, node)? {
        scene.met("refuses");
    } else {
        scene.missed(format!("node {node} has refused no push by its marks"));
    }
    if ends(scene, node)? {
        scene.met("ends");
    } else {
        scene.missed(format!("node {node} has not ended by its marks"));
    }
    scene.cluster.disk(node).context(NO_DISK)?.empty()?;
    scene.cluster.kill_if_it_runs(node)?;
    std::fs::write(&config, without_marks).context("cannot write a configuration")?;
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

fn with_default_marks(config: &str) -> anyhow::Result<String> {
    let mut table: toml::Table = config.parse().context("a configuration is no TOML")?;
    table.remove(MARKS).context("a node without marks has none that could be taken away")?;
    toml::to_string(&table).context("a configuration cannot be written")
}

fn is_refused(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<bool> {
    scene.cluster.disk(node).context(NO_DISK)?.fill(REFUSES_BYTES)?;
    let refused = wait_for("pushes are refused", MEETS_WITHIN, || {
        (push(scene, node).contains(REFUSED) || !scene.cluster.is_alive(node)).then(|| scene.cluster.is_alive(node))
    });
    scene.last(500, 2_000);
    Ok(refused.unwrap_or(false))
}

fn ends(scene: &mut Scene<'_>, node: usize) -> anyhow::Result<bool> {
    let free = ENDS_BYTES[scene.random.random_range(0..ENDS_BYTES.len())];
    let mut words = Words::from_now(scene, node);
    scene.cluster.disk(node).context(NO_DISK)?.fill(free)?;
    let ended = wait_for("a node without room ends", MEETS_WITHIN, || scene.cluster.ended(node).map(drop));
    let is_said = words.fresh().contains(ENDED);
    Ok(ended.is_ok() && is_said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_met_a_full_disk_is_told_by_its_path() {
        let told = |line: &str| parts_of(line, Path::new("/n/data")).collect::<Vec<_>>();
        assert_eq!(told("No space left on device: While appending to file: /n/data/log/000040.sst"), ["log"]);
        assert_eq!(told("cannot write to the database in /n/data/state/db-1: IO error: No space left"), ["state"]);
        assert_eq!(told("cannot write /n/data/snapshots/making-0/manifest.json: No space left"), ["snapshot"]);
        let both = "cannot make a snapshot of the database in /n/data/state/db-1: No space left on device";
        assert_eq!(told(both), ["snapshot", "state"]);
        assert_eq!(told("trying to write in /n/data/blobs: No space left on device (os error 28)"), ["blobs"]);
        assert_eq!(told("/n/data/log is fine"), Vec::<&str>::new());
    }

    #[test]
    fn a_configuration_with_default_marks_lacks_those_of_the_run() {
        let text = format!("[node]\nname = \"a\"\n[raft]\nheartbeat_ms = 200\n{SETTINGS}[http]\nread_wait_ms = 6000\n");
        let table: toml::Table = with_default_marks(&text).unwrap().parse().unwrap();
        assert!(!table.contains_key("disk"));
        assert_eq!(table["raft"]["snapshot_every"].as_integer(), Some(40));
        assert_eq!(table["http"]["read_wait_ms"].as_integer(), Some(6000));
        assert!(with_default_marks("[node]\n").is_err());
    }

    #[test]
    fn what_is_held_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        // All of the disk is left, for this one is not ours to fill.
        let left = AtomicU64::new(u64::MAX);
        let there = while_held(folder.path(), &left, || folder.path().join("brim").exists()).unwrap();
        assert!(there && !folder.path().join("brim").exists());
    }
}

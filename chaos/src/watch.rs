//! Watches a cluster while clients and faults are at it: who leads, how far each region lags, what processes use.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cluster::{Desk, NODES, Status};
use crate::history::{LagSeen, Recorder, TermSeen, Usage};
use crate::link::Pids;
use crate::stores::{Stores, bytes_below};

const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Asking for the lag starts a process and reads three stores.
const LAG_EVERY: Duration = Duration::from_millis(1_500);
const PAGE_BYTES: u64 = 4096;
/// Of `st_blocks` (inode(7)).
const BLOCK_BYTES: u64 = 512;

/// A watcher that runs until it is told to stop.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts to watch.
    pub(crate) fn start(desk: Arc<Desk>, pids: Arc<Mutex<Pids>>, recorder: Arc<Recorder>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut watcher) =
            (stop.clone(), Watcher { desk, pids, recorder, stores: Stores::default(), turn: 0 });
        let thread = std::thread::spawn(move || {
            let mut lag_due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                watcher.look();
                if lag_due <= Instant::now() {
                    watcher.look_at_lag();
                    lag_due = Instant::now() + LAG_EVERY;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))
    }
}

struct Watcher {
    desk: Arc<Desk>,
    pids: Arc<Mutex<Pids>>,
    recorder: Arc<Recorder>,
    stores: Stores,
    turn: usize,
}

impl Watcher {
    fn look(&self) {
        let pids = self.pids.lock().clone();
        for (node, pid) in pids.into_iter().enumerate() {
            let Some(pid) = pid else { continue };
            if is_stopped(pid) {
                continue;
            }
            if let Some(Status { leads, term }) = self.desk.raft(node) {
                let at = self.recorder.now();
                self.recorder.add(|h| h.terms.push(TermSeen { node, at, term, leads }));
            }
            if let Some(usage) = usage(node, pid, &self.desk.nodes[node].data(), self.recorder.now()) {
                self.recorder.add(|h| h.usage.push(usage));
            }
        }
    }

    fn look_at_lag(&mut self) {
        self.turn += 1;
        let node = self.turn % NODES;
        let runs = self.pids.lock()[node].is_some_and(|pid| !is_stopped(pid));
        let before = self.desk.away();
        let Some((revision, regions)) = runs.then(|| self.desk.lag(node).ok()).flatten() else { return };
        let at = self.recorder.now();
        let mut stores = Vec::new();
        for (node, away) in self.desk.nodes.iter().zip(before) {
            stores.push((!away).then(|| self.stores.read(node).digests));
        }
        let after = self.desk.away().into_iter();
        let stores = stores.into_iter().zip(after).map(|(store, away)| store.filter(|_| !away)).collect();
        self.recorder.add(|h| h.lags.push(LagSeen { node, at, revision, regions, stores }));
    }
}

/// A process that is stopped answers nobody: it is not asked.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|s| s.starts_with('T') || s.starts_with('t'))
}

fn usage(node: usize, pid: u32, data: &Path, at: u64) -> Option<Usage> {
    let folder = format!("/proc/{pid}");
    let count = |what: &str| std::fs::read_dir(format!("{folder}/{what}")).map(|d| d.count() as u64).ok();
    Some(Usage {
        node,
        at,
        resident_bytes: resident_bytes(pid)?,
        descriptors: count("fd")?,
        threads: count("task")?,
        temporary_bytes: bytes_below(&data.join("blobs/tmp")) + bytes_below(&data.join("spool")) + spooled_bytes(pid),
    })
}

/// Bytes on disk of what a node spools: files without a name that it holds open.
pub(crate) fn spooled_bytes(pid: u32) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let nameless = files.filter(|f| {
        let target = std::fs::read_link(f.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        target.contains("/spool/") && target.ends_with(" (deleted)")
    });
    nameless.filter_map(|f| Some(std::fs::metadata(f.path()).ok()?.blocks() * BLOCK_BYTES)).sum()
}

/// What a process has in memory.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let pages: u64 = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

//! Faults, a file for each kind. A fault begins, lasts, and is healed within one call, and is counted against every
//! operation that was under way meanwhile. One that has met nothing of what it is about has not fired.

pub(crate) mod behind;
mod blob_sync;
pub(crate) mod clock;
pub(crate) mod cut;
pub(crate) mod damage;
pub(crate) mod disk_full;
mod fired;
mod fsync;
mod kill;
mod pause;
mod power;
mod replication;
mod reset;
mod slow;
pub(crate) mod spool;
mod storm;
mod wipe;
mod words;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::RngExt as _;
use rand::rngs::StdRng;

use self::fired::Nodes;
pub(crate) use self::fired::{Fired, Firing, Firings, Kinds};
use crate::cluster::{Cluster, NODES};
use crate::workload::World;

/// What can be done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A node is killed at any moment, and started again.
    Kill,
    /// The node that leads is killed.
    KillLeader,
    /// All nodes are killed at once.
    KillAll,
    /// A node is ended in good order, and started again.
    Restart,
    /// A node is stopped for 1 to 8 s.
    Pause,
    /// A node is stopped for 20 to 60 s.
    LongPause,
    /// The leader is stopped for longer than an election takes.
    PauseLeader,
    /// A node is cut off from all others, until it knows.
    CutOff,
    /// Nothing that a node sends arrives; it hears all.
    CutOneWay,
    /// Two nodes do not reach each other, and both reach the third.
    Bridge,
    /// A node is cut off and healed several times in a second or two.
    Flapping,
    /// All links are as long as between continents, with jitter.
    Far,
    /// The links of a node have 64 kbit/s to 10 Mbit/s.
    Slow,
    /// Connections between nodes are reset in the midst of what they carry.
    Reset,
    /// A node's disk is full, and the node has no marks that make it end before.
    DiskFull,
    /// A node's disk has too little room by the marks that it has by default.
    DiskLow,
    /// One fsync of a node fails.
    FsyncOnce,
    /// Every fsync of a node fails.
    FsyncForGood,
    /// Some syncs of blobs fail, which no node ends of.
    BlobSync,
    /// Bits of a stopped node's blobs are flipped, or the files cut short.
    DamagedBlobs,
    /// Bits of a stopped node's log are flipped, or a file cut short.
    DamagedLog,
    /// Likewise its state.
    DamagedState,
    /// A node's data folder is lost.
    Wiped,
    /// A node loses power, and what it did not sync.
    PowerLoss,
    /// All do, at once.
    PowerLossOfAll,
    /// A region fetches nothing for a while.
    PausedReplication,
    /// A client opens more upload sessions than a node keeps.
    ManySessions,
    /// More than a GiB is pulled from a node.
    ManyPulls,
    /// Clients take nothing of what their region has to get from elsewhere.
    SlowClients,
    /// A node's clock jumps by up to an hour, forth or back.
    ClockJump,
    /// A node is away until the others have no log for it any more; it may die while it gets a snapshot.
    LeftBehind,
    /// It is given a snapshot whose files are damaged.
    DamagedSnapshot,
    /// A node dies at a failpoint.
    Failpoint,
}

impl Fault {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillLeader => "kill-leader",
            Self::KillAll => "kill-all",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::LongPause => "long-pause",
            Self::PauseLeader => "pause-leader",
            Self::CutOff => "cut-off",
            Self::CutOneWay => "cut-one-way",
            Self::Bridge => "bridge",
            Self::Flapping => "flapping",
            Self::Far => "far",
            Self::Slow => "slow",
            Self::Reset => "reset",
            Self::DiskFull => "disk-full",
            Self::DiskLow => "disk-low",
            Self::FsyncOnce => "fsync-once",
            Self::FsyncForGood => "fsync-for-good",
            Self::BlobSync => "blob-sync",
            Self::DamagedBlobs => "damaged-blobs",
            Self::DamagedLog => "damaged-log",
            Self::DamagedState => "damaged-state",
            Self::Wiped => "wiped",
            Self::PowerLoss => "power-loss",
            Self::PowerLossOfAll => "power-loss-all",
            Self::PausedReplication => "paused-repl",
            Self::ManySessions => "many-sessions",
            Self::ManyPulls => "many-pulls",
            Self::SlowClients => "slow-clients",
            Self::ClockJump => "clock-jump",
            Self::LeftBehind => "left-behind",
            Self::DamagedSnapshot => "damaged-snap",
            Self::Failpoint => "failpoint",
        }
    }

    /// Kinds of it that a run tells apart: each must have fired.
    pub(crate) const fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::DiskFull => &disk_full::PARTS,
            Self::DiskLow => &disk_full::LOW,
            Self::BlobSync => &blob_sync::STEPS,
            Self::DamagedLog | Self::DamagedState => &damage::FILES,
            Self::DamagedSnapshot => &behind::DAMAGES,
            _ => &[],
        }
    }
}

/// What a fault is done with.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) world: &'a Arc<World>,
    pub(crate) random: &'a mut StdRng,
    pub(crate) fired: &'a mut Firings,
    /// Of the rounds so far.
    pub(crate) kinds: &'a mut Kinds,
    /// What was seen that no checker of the history sees: told at once, as a violation.
    pub(crate) found: &'a mut Vec<(&'static str, String)>,
    pub(crate) now: Now,
}

/// What a fault tells of itself while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Now {
    nodes: Nodes,
    kinds: Vec<&'static str>,
    missed: Option<String>,
}

impl Scene<'_> {
    /// Does it, and returns when it is healed: whether it fired, or has met nothing of what it is about.
    ///
    /// # Errors
    /// When the harness fails, or the node does not come back.
    pub(crate) fn fire(&mut self, fault: Fault) -> anyhow::Result<bool> {
        self.now = Now::default();
        let start = self.world.recorder.now();
        self.go(fault)?;
        let end = self.world.recorder.now();
        let Now { nodes, kinds, missed } = std::mem::take(&mut self.now);
        if let Some(why) = missed {
            println!("  {} did not fire: {why}", fault.name());
            return Ok(false);
        }
        kinds.into_iter().for_each(|kind| self.kinds.add(fault, kind));
        let fired = Fired { fault, start, end };
        // One that names no node is done to all.
        if nodes.contains(&true) {
            self.fired.push_at(fired, nodes)
        } else {
            self.fired.push(fired)
        }
        Ok(true)
    }

    fn go(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => kill::one(self),
            Fault::KillLeader => kill::leader(self),
            Fault::KillAll => kill::all(self),
            Fault::Restart => kill::restart(self),
            Fault::Pause => pause::short(self),
            Fault::LongPause => pause::long(self),
            Fault::PauseLeader => pause::leader(self),
            Fault::CutOff => cut::off(self),
            Fault::CutOneWay => cut::one_way(self),
            Fault::Bridge => cut::bridge(self),
            Fault::Flapping => cut::flapping(self),
            Fault::Far => slow::far(self),
            Fault::Slow => slow::slow(self),
            Fault::Reset => reset::in_mid_stream(self),
            Fault::DiskFull => disk_full::fill(self),
            Fault::DiskLow => disk_full::low(self),
            Fault::FsyncOnce => fsync::once(self),
            Fault::FsyncForGood => fsync::for_good(self),
            Fault::BlobSync => blob_sync::fail(self),
            Fault::DamagedBlobs => damage::blobs(self),
            Fault::DamagedLog => damage::log(self),
            Fault::DamagedState => damage::state(self),
            Fault::Wiped => wipe::wipe(self),
            Fault::PowerLoss => power::one(self),
            Fault::PowerLossOfAll => power::all(self),
            Fault::PausedReplication => replication::pause(self),
            Fault::ManySessions => storm::sessions(self),
            Fault::ManyPulls => storm::pulls(self),
            Fault::SlowClients => spool::slow_clients(self),
            Fault::ClockJump => clock::jump(self),
            Fault::LeftBehind => behind::left(self),
            Fault::DamagedSnapshot => behind::damaged(self),
            // It is armed at a start, and the run itself waits for it.
            Fault::Failpoint => Ok(()),
        }
    }

    /// It is done to these nodes, or to a link of each.
    fn touches(&mut self, nodes: impl IntoIterator<Item = usize>) {
        nodes.into_iter().for_each(|node| self.now.nodes[node] = true);
    }

    /// A kind of it was met.
    fn met(&mut self, kind: &'static str) {
        self.now.kinds.push(kind);
    }

    /// It is not to be counted.
    fn missed(&mut self, why: impl Into<String>) {
        self.now.missed = Some(why.into());
    }

    /// Of some kinds of a fault the one that is due.
    fn due(&self, fault: Fault, among: &[&'static str]) -> anyhow::Result<&'static str> {
        self.kinds.least(fault, among, &self.now.kinds).context("a fault without kinds has none that is due")
    }

    /// Any node.
    fn node(&mut self) -> usize {
        self.random.random_range(0..NODES)
    }

    /// The node that leads, or any when nobody is known to.
    pub(crate) fn leader(&mut self) -> usize {
        self.cluster.leader().unwrap_or_else(|| self.node())
    }

    /// Lets the faulty time go on: this long it lasts, which is what is wanted, not something that is waited for.
    pub(crate) fn last(&mut self, from_ms: u64, to_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.random.random_range(from_ms..=to_ms)));
    }
}

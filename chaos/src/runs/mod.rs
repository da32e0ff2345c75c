//! The runs: which faults each fires, how often, on what kind of cluster; and how one goes.

mod plan;
mod report;
mod round;
mod whole;

use crate::cluster::{More, Timing, disk};
use crate::faults::Fault;
use crate::faults::disk_full;
use crate::faults::spool::SPOOL_BYTES_MAX;

pub(crate) use whole::{Request, Verdict, run};

/// A fault of a run's plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    /// How often in a round.
    pub(crate) times: u32,
    /// In every so manieth round, beginning with the first.
    pub(crate) every: u32,
}

const fn each(fault: Fault) -> Planned {
    Planned { fault, times: 1, every: 1 }
}

const fn twice(fault: Fault) -> Planned {
    Planned { fault, times: 2, every: 1 }
}

const fn seldom(fault: Fault, every: u32) -> Planned {
    Planned { fault, times: 1, every }
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) plan: &'static [Planned],
    pub(crate) timing: Timing,
    /// A disk of its own for each node.
    pub(crate) disk: Option<disk::Kind>,
    /// Nodes have a clock that can jump.
    pub(crate) clock: bool,
    /// Nodes are killed at failpoints, which the sources name.
    pub(crate) failpoints: bool,
    /// What the nodes' configurations say beyond that.
    pub(crate) more: More,
    /// Every node begins anew in each round.
    pub(crate) fresh: bool,
}

const fn of(name: &'static str, about: &'static str, plan: &'static [Planned]) -> Run {
    let timing = Timing::NEAR;
    Run { name, about, plan, timing, disk: None, clock: false, failpoints: false, more: PLAIN, fresh: false }
}

const PLAIN: More = More { raft: "", spool_bytes_max: None };
/// Snapshots are made, and are needed by who was away for seconds.
const SNAPSHOTS: More = More { raft: "snapshot_every = 100\nlog_entries_max = 16\n", ..PLAIN };
/// Disks are written to until they are full.
const UNMARKED: More = More { raft: disk_full::SETTINGS, ..PLAIN };
/// Room for one larger blob.
const SMALL_SPOOL: More = More { spool_bytes_max: Some(SPOOL_BYTES_MAX), ..PLAIN };

/// All runs.
pub(crate) const RUNS: [Run; 17] = [
    of(
        "kill",
        "kill -9 of any node, of the leader, and of all at once",
        &[each(Fault::Kill), each(Fault::KillLeader), seldom(Fault::KillAll, 3)],
    ),
    Run {
        failpoints: true,
        more: SNAPSHOTS,
        fresh: true,
        ..of(
            "failpoints",
            "a node dies at each failpoint, before and after each durable step",
            &[each(Fault::Failpoint)],
        )
    },
    of(
        "pause",
        "SIGSTOP for 1 to 60 s, of any node and of the leader",
        &[each(Fault::Pause), each(Fault::PauseLeader), seldom(Fault::LongPause, 4)],
    ),
    of(
        "partition",
        "a node cut off wholly or one way, a bridge, flapping",
        &[each(Fault::CutOff), each(Fault::CutOneWay), each(Fault::Bridge), each(Fault::Flapping)],
    ),
    Run {
        timing: Timing::FAR,
        ..of("wan", "links of 20 to 300 ms, and of 64 kbit/s to 10 Mbit/s", &[each(Fault::Far), twice(Fault::Slow)])
    },
    of("reset", "connections reset in the midst of what they carry", &[twice(Fault::Reset)]),
    Run {
        disk: Some(disk::Kind::Small(400)),
        more: UNMARKED,
        fresh: true,
        ..of(
            "disk-full",
            "a node's disk is full, or too full by its marks",
            &[twice(Fault::DiskFull), each(Fault::DiskLow)],
        )
    },
    of(
        "fsync",
        "fsync fails, once and for good, and those of blobs alone",
        &[each(Fault::FsyncOnce), each(Fault::FsyncForGood), each(Fault::BlobSync)],
    ),
    Run {
        fresh: true,
        ..of(
            "damage",
            "bits flipped and files cut short: blobs, log, state",
            &[each(Fault::DamagedLog), twice(Fault::DamagedState), each(Fault::DamagedBlobs)],
        )
    },
    of("wiped", "a data folder is lost, and found again", &[each(Fault::Wiped)]),
    Run {
        disk: Some(disk::Kind::Volatile(4_000)),
        ..of(
            "power",
            "all nodes lose power, and what was not synced",
            &[each(Fault::PowerLoss), each(Fault::PowerLossOfAll)],
        )
    },
    Run {
        more: SNAPSHOTS,
        ..of(
            "snapshots",
            "nodes that were away need a snapshot, and die while they get it",
            &[twice(Fault::LeftBehind), twice(Fault::DamagedSnapshot), each(Fault::Reset)],
        )
    },
    Run {
        more: SMALL_SPOOL,
        ..of(
            "bounds",
            "more than a node may keep",
            &[each(Fault::ManySessions), each(Fault::ManyPulls), each(Fault::SlowClients)],
        )
    },
    of("lag", "a region's replication is paused", &[each(Fault::PausedReplication)]),
    Run { clock: true, ..of("clock", "a node's wall clock jumps by up to an hour", &[twice(Fault::ClockJump)]) },
    of(
        "churn",
        "leaders come and go, nodes are restarted",
        &[twice(Fault::KillLeader), twice(Fault::PauseLeader), each(Fault::Restart)],
    ),
    of(
        "mixed",
        "one of each, in any order",
        &[
            each(Fault::Kill),
            each(Fault::Pause),
            each(Fault::CutOff),
            each(Fault::CutOneWay),
            each(Fault::Reset),
            each(Fault::Slow),
            each(Fault::FsyncForGood),
            seldom(Fault::KillAll, 2),
        ],
    ),
];

/// The run of a name.
pub(crate) fn find(name: &str) -> Option<&'static Run> {
    RUNS.iter().find(|run| run.name == name)
}

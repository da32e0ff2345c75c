//! What goes wrong, and when, by a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, End, PATIENCE};
use crate::counts::Counts;
use crate::image::Crash;

/// Faults of one run beyond the first of each kind.
const MORE: usize = 3;
/// Bytes in a second at which a snapshot is slow enough to be cut off.
const SLOW: u32 = 100_000;
/// For how long a clock is wrong at most, in milliseconds.
const CLOCK_OFF_MS_MAX: i64 = 120_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Isolation,
    OneWayCut,
    HandOver,
    Stop,
    Abandon,
    Crash,
    Blackout,
    Snapshot,
    Clock,
}

/// Each kind, and what it is counted as.
const KINDS: [(Kind, &str); 9] = [
    (Kind::Isolation, "isolations"),
    (Kind::OneWayCut, "one-way cuts"),
    (Kind::HandOver, "hand-overs tried"),
    (Kind::Stop, "stops in peace"),
    (Kind::Abandon, "abrupt stops"),
    (Kind::Crash, "crash images"),
    (Kind::Blackout, "blackouts"),
    (Kind::Snapshot, "nodes away for long"),
    (Kind::Clock, "clocks set"),
];

/// What a run's luck decides: a large batch must have it.
pub(crate) const BY_LUCK: [&str; 5] = [
    "hand-overs done",
    "ends with calls under way",
    "images amid writes",
    "images after a loss of power",
    "snapshots cut off",
];

pub(crate) struct Schedule<'a> {
    dice: StdRng,
    cluster: &'a Cluster,
}

impl<'a> Schedule<'a> {
    pub(crate) fn new(seed: u64, cluster: &'a Cluster) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), cluster }
    }

    /// One fault after the other, each mended before the next: a majority is always there again.
    pub(crate) async fn play(mut self, mut look: impl FnMut()) {
        let mut kinds = KINDS.to_vec();
        kinds.shuffle(&mut self.dice);
        for _ in 0..MORE {
            kinds.extend(KINDS.choose(&mut self.dice));
        }
        for (kind, counted) in kinds {
            let node = self.victim();
            self.note(&format!("{kind:?} of node {}, node {:?} leads", node + 1, self.cluster.leader().map(|n| n + 1)));
            self.count(counted);
            self.fire(kind, node).await;
            look();
            self.cluster.troubles.assert_none();
            self.pause(50, 700).await;
        }
    }

    async fn fire(&mut self, kind: Kind, node: usize) {
        match kind {
            Kind::Isolation => self.isolate(node).await,
            Kind::OneWayCut => self.cut_one_way(node).await,
            Kind::HandOver => self.hand_over().await,
            Kind::Stop => self.restart(node, End::Stopped).await,
            Kind::Abandon => self.restart(node, End::Abandoned).await,
            Kind::Crash => {
                let crash = self.any_crash();
                self.restart(node, End::Crashed(crash)).await;
            }
            Kind::Blackout => self.black_out().await,
            Kind::Snapshot => self.keep_away(node).await,
            Kind::Clock => {
                let off_ms = self.dice.random_range(-CLOCK_OFF_MS_MAX..=CLOCK_OFF_MS_MAX);
                self.cluster.set_clock(node, off_ms);
            }
        }
    }

    fn count(&self, what: &'static str) {
        self.cluster.fired.lock().note(what);
    }

    fn note(&self, what: &str) {
        self.cluster.troubles.note(what);
    }

    /// Half of all faults are the leader's.
    fn victim(&mut self) -> usize {
        let (any, leader) = (self.dice.random_range(0..self.cluster.len()), self.dice.random_bool(0.5));
        self.cluster.leader().filter(|_| leader).unwrap_or(any)
    }

    async fn pause(&mut self, low_ms: u64, high_ms: u64) {
        let time = Duration::from_millis(self.dice.random_range(low_ms..=high_ms));
        sleep(time).await;
    }

    async fn isolate(&mut self, node: usize) {
        self.cut(|from, to| from == node || to == node).await;
    }

    /// A node calls nobody, but is called; or the other way round.
    async fn cut_one_way(&mut self, node: usize) {
        let calls = self.dice.random_bool(0.5);
        self.cut(|from, to| if calls { from == node } else { to == node }).await;
    }

    /// Cuts ways for a while, in which now and then some node ends, too.
    async fn cut(&mut self, which: impl Fn(usize, usize) -> bool) {
        let set = |cluster: &Cluster, cut| {
            let all = (0..cluster.len()).flat_map(|from| (0..cluster.len()).map(move |to| (from, to)));
            all.filter(|(from, to)| which(*from, *to)).for_each(|(from, to)| cluster.set_cut(from, to, cut));
        };
        set(self.cluster, true);
        self.pause(200, 1_500).await;
        if self.dice.random_bool(0.4) {
            let (node, how) = (self.dice.random_range(0..self.cluster.len()), self.any_end());
            self.note(&format!("node {} is {how:?} meanwhile", node + 1));
            self.count("ends within cuts");
            self.restart(node, how).await;
        }
        self.pause(0, 700).await;
        set(self.cluster, false);
    }

    /// The one who is to lead may end at once.
    async fn hand_over(&mut self) {
        let (to, ends) = (self.dice.random_range(1..self.cluster.len()), self.dice.random_bool(0.3));
        let Some(from) = self.cluster.leader() else { return };
        let to = (from + to) % self.cluster.len();
        if self.cluster.hand_over(from, to).await {
            self.count("hand-overs done");
        }
        if ends {
            self.note(&format!("node {} crashes after it", to + 1));
            let crash = self.any_crash();
            self.restart(to, End::Crashed(crash)).await;
        }
    }

    fn any_end(&mut self) -> End {
        let crash = self.any_crash();
        *[End::Stopped, End::Abandoned, End::Crashed(crash)].choose(&mut self.dice).expect("there are some")
    }

    /// Often at once: what was promised just now must be on the disk.
    fn any_crash(&mut self) -> Crash {
        let muted = Duration::from_millis(self.dice.random_range(1..100));
        let (kept, at_once, by_power) = (self.dice.random(), self.dice.random_bool(0.5), self.dice.random_bool(0.5));
        Crash { muted: if at_once { Duration::ZERO } else { muted }, kept: if by_power { kept } else { 1.0 } }
    }

    async fn restart(&mut self, node: usize, how: End) {
        self.end(node, how).await;
        self.pause(0, 1_200).await;
        self.cluster.start(node).await;
    }

    /// Ends a node while it has something to do.
    async fn end(&mut self, node: usize, how: End) {
        let is_asked = || self.cluster.node(node).is_some_and(|node| node.asked() > 0);
        if self.wait(Duration::from_millis(500), is_asked).await {
            self.count("ends with calls under way");
        }
        self.pause(0, 20).await;
        self.cluster.end(node, how).await;
    }

    /// All nodes crash at once, and come back one after the other.
    async fn black_out(&mut self) {
        let mut all: Vec<usize> = (0..self.cluster.len()).collect();
        let crash = self.any_crash();
        self.cluster.crash(&all, crash).await;
        all.shuffle(&mut self.dice);
        for node in all {
            self.pause(0, 400).await;
            self.cluster.start(node).await;
        }
    }

    /// A node is away until the others have purged what it lacks, and the snapshot that it needs then is cut off.
    async fn keep_away(&mut self, node: usize) {
        let how = self.any_end();
        self.end(node, how).await;
        let others = || self.cluster.all_running().map(|(_, other)| other.group.status());
        let last = others().map(|other| other.last_log.0).max().unwrap_or(0);
        let purged = self.wait(PATIENCE, || others().all(|other| other.first_log.0 > last + 1)).await;
        assert!(purged, "the others keep in their logs what node {} lacks", node + 1);
        self.set_pace(node, Some(SLOW));
        // Before it starts: a small snapshot is there in no time.
        let installs = self.cluster.installs_on_disk(node);
        self.cluster.start(node).await;
        let cluster = self.cluster;
        let installed = || cluster.running(node).group.generation() > installs;
        let receives = self.wait(PATIENCE, || cluster.is_receiving(node) || installed()).await;
        assert!(receives, "nobody sends node {} the snapshot that it needs", node + 1);
        self.pause(0, 500).await;
        self.cut_off_snapshot(node, installs).await;
        self.set_pace(node, None);
        assert!(self.wait(PATIENCE, installed).await, "node {} is not given the snapshot that it needs", node + 1);
        self.count("snapshots installed");
    }

    fn set_pace(&self, to: usize, pace: Option<u32>) {
        (0..self.cluster.len()).filter_map(|from| self.cluster.link(from, to)).for_each(|link| link.set_pace(pace));
    }

    /// Ends the sender of a snapshot, its receiver, or the way between them.
    async fn cut_off_snapshot(&mut self, to: usize, installs: u64) {
        let (what, how) = (self.dice.random_range(0..4), self.any_end());
        let Some(from) = self.cluster.leader().filter(|from| *from != to) else { return };
        if self.cluster.is_receiving(to) && self.cluster.running(to).group.generation() == installs {
            self.count("snapshots cut off");
        }
        match what {
            0 | 1 => {
                self.note(&format!("node {} is {how:?} while it sends a snapshot", from + 1));
                self.restart(from, how).await;
            }
            2 => {
                self.note(&format!("node {} is {how:?} while it receives a snapshot", to + 1));
                self.restart(to, how).await;
            }
            _ => {
                self.note("the way of a snapshot is cut");
                self.cluster.set_cut(from, to, true);
                self.pause(100, 1_500).await;
                self.cluster.set_cut(from, to, false);
            }
        }
    }

    /// Whether it was so within some time.
    async fn wait(&self, time: Duration, is_so: impl Fn() -> bool) -> bool {
        let until = Instant::now() + time;
        while !is_so() {
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }
}

/// What each run has to have.
pub(crate) fn missing(fired: &Counts) -> Vec<&'static str> {
    KINDS.iter().map(|(_, counted)| *counted).filter(|counted| fired.of(counted) == 0).collect()
}

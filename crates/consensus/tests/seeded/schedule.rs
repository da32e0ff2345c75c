//! What goes wrong, and when, by a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::Cluster;

/// Faults of one run: each kind at least once, in an order of the seed's.
const STEPS: usize = 12;

/// How often each fault fired.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    isolations: u32,
    one_way_cuts: u32,
    restarts: u32,
    handovers: u32,
    handover_tries: u32,
}

impl Fired {
    /// A lead may be lost before it is handed over: tries count.
    pub(crate) fn all_fired(&self) -> bool {
        [self.isolations, self.one_way_cuts, self.restarts, self.handover_tries].iter().all(|times| *times > 0)
    }
}

pub(crate) struct Schedule(StdRng);

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// One fault after the other, each mended before the next: a majority is always there again.
    pub(crate) async fn play(mut self, cluster: &Cluster) -> Fired {
        let (mut fired, start) = (Fired::default(), self.0.random_range(0..4));
        for step in 0..STEPS {
            let node = self.0.random_range(0..cluster.len());
            match if step < 4 { (start + step) % 4 } else { self.0.random_range(0..4) } {
                0 => {
                    fired.isolations += 1;
                    self.isolate(cluster, node).await;
                }
                1 => {
                    fired.one_way_cuts += 1;
                    self.cut_one_way(cluster, node).await;
                }
                2 => {
                    fired.restarts += 1;
                    cluster.stop(node).await;
                    self.pause(100, 1_500).await;
                    cluster.start(node).await;
                }
                _ => {
                    fired.handover_tries += 1;
                    fired.handovers += u32::from(cluster.hand_over(node).await);
                }
            }
            self.pause(50, 1_000).await;
        }
        fired
    }

    async fn pause(&mut self, low_ms: u64, high_ms: u64) {
        let time = Duration::from_millis(self.0.random_range(low_ms..=high_ms));
        sleep(time).await;
    }

    async fn isolate(&mut self, cluster: &Cluster, node: usize) {
        let set = |cut| {
            for other in (0..cluster.len()).filter(|other| *other != node) {
                cluster.set_cut(node, other, cut);
                cluster.set_cut(other, node, cut);
            }
        };
        set(true);
        self.pause(300, 3_000).await;
        set(false);
    }

    /// A node calls nobody, but is called; or the other way round.
    async fn cut_one_way(&mut self, cluster: &Cluster, node: usize) {
        let calls = self.0.random_bool(0.5);
        let set = |cut| {
            for other in (0..cluster.len()).filter(|other| *other != node) {
                let (from, to) = if calls { (node, other) } else { (other, node) };
                cluster.set_cut(from, to, cut);
            }
        };
        set(true);
        self.pause(300, 3_000).await;
        set(false);
    }
}

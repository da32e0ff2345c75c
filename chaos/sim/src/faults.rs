//! What goes wrong, when, and for how long. Two actors, so that faults meet: one has the network and the leader, one has
//! nodes, disks and stores.

use std::sync::Arc;
use std::time::Duration;

use atoll_metadata::read;
use tokio::time::{Instant, sleep, timeout};

use crate::checkers::cut_off;
use crate::dice::Dice;
use crate::disk::Synced;
use crate::log::QUORUM_WINDOW;
use crate::world::World;

/// How long a sync is waited for that is to fail, or to be cut short.
const SYNC_WAIT: Duration = Duration::from_secs(2);
const SYNC_LOOK: Duration = Duration::from_millis(1);
/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// Does harm until the time is over, and mends all of it.
pub(crate) struct Faults {
    world: Arc<World>,
    dice: Dice,
    until: Instant,
}

impl Faults {
    pub(crate) fn new(world: &Arc<World>, actor: &str, until: Instant) -> Self {
        Self { world: world.clone(), dice: Dice::new(world.seed, actor), until }
    }

    pub(crate) async fn of_the_network(mut self) {
        let world = self.world.clone();
        while self.pause().await {
            let _storm = world.weather.storm();
            match self.dice.below(9) {
                0 | 1 => self.isolate().await,
                2 => self.one_way().await,
                3 => self.bridge().await,
                4 => self.flap().await,
                5 => self.slow().await,
                6 => self.lose().await,
                7 => self.reset(),
                _ => self.churn().await,
            }
        }
    }

    pub(crate) async fn of_the_nodes(mut self) {
        let world = self.world.clone();
        while self.pause().await {
            let _storm = world.weather.storm();
            match self.dice.below(12) {
                0 | 1 => self.crash().await,
                2 => self.fail_syncs().await,
                3 => self.fill_disk().await,
                4 | 5 => self.store_faults().await,
                6 | 7 if self.world.rots() => self.rot().await,
                6 | 7 => self.store_faults().await,
                8 | 9 => self.lag().await,
                10 => self.fail_sync_of_log().await,
                _ => self.jump_clock().await,
            }
        }
    }

    async fn pause(&mut self) -> bool {
        let pause = self.dice.millis(300, 4_000);
        sleep(pause).await;
        Instant::now() < self.until
    }

    async fn last(&mut self, low_ms: u64, high_ms: u64) {
        let time = self.dice.millis(low_ms, high_ms);
        sleep(time).await;
    }

    fn fired(&self, what: &str, detail: &str) {
        self.world.judge.fired(what);
        self.world.trace.note("FAULT", &format!("{what} {detail}"));
    }

    fn some_place(&mut self) -> usize {
        self.dice.below(self.world.places.len())
    }

    fn others(&self, of: usize) -> Vec<usize> {
        (0..self.world.places.len()).filter(|other| *other != of).collect()
    }

    /// A node hears nobody and nobody hears it.
    async fn isolate(&mut self) {
        let node = self.some_place();
        self.fired("partition", &node.to_string());
        for other in self.others(node) {
            self.world.net.set_cut_both(node, other, true);
        }
        if self.dice.chance(0.6) {
            sleep(QUORUM_WINDOW + Duration::from_millis(500)).await;
            cut_off::check(&self.world, node).await;
        }
        self.last(200, 5_000).await;
        for other in self.others(node) {
            self.world.net.set_cut_both(node, other, false);
        }
    }

    /// A node is heard, and hears nothing; or the other way round.
    async fn one_way(&mut self) {
        let (node, deaf) = (self.some_place(), self.dice.chance(0.5));
        self.fired("one-way partition", &format!("{node} deaf {deaf}"));
        let set = |faults: &Self, cut| {
            for other in faults.others(node) {
                let (from, to) = if deaf { (other, node) } else { (node, other) };
                faults.world.net.set_cut(from, to, cut);
            }
        };
        set(self, true);
        self.last(500, 6_000).await;
        set(self, false);
    }

    /// Two halves that hear each other through one node alone.
    async fn bridge(&mut self) {
        let bridge = self.some_place();
        self.fired("bridge partition", &bridge.to_string());
        let others = self.others(bridge);
        let (left, right) = others.split_at(others.len() / 2);
        let set = |faults: &Self, cut| {
            for a in left {
                right.iter().for_each(|b| faults.world.net.set_cut_both(*a, *b, cut));
            }
        };
        set(self, true);
        self.last(500, 6_000).await;
        set(self, false);
    }

    /// A link comes and goes.
    async fn flap(&mut self) {
        let a = self.some_place();
        let Some(b) = self.dice.pick(&self.others(a)).copied() else { return };
        self.fired("flapping link", &format!("{a} {b}"));
        for nth in 0..8 {
            self.world.net.set_cut_both(a, b, nth % 2 == 0);
            self.last(50, 600).await;
        }
        self.world.net.set_cut_both(a, b, false);
    }

    async fn slow(&mut self) {
        let by_ms = self.dice.between(100, 300);
        self.fired("slow network", &format!("{by_ms} ms"));
        self.world.net.slow_down(by_ms);
        self.last(500, 5_000).await;
        self.world.net.speed_up(by_ms);
    }

    async fn lose(&mut self) {
        let percent = self.dice.between(2, 10);
        self.fired("lossy network", &format!("{percent} %"));
        self.world.net.set_loss(percent as f64 / 100.0);
        self.last(1_000, 6_000).await;
        self.world.net.set_loss(0.0);
    }

    fn reset(&mut self) {
        self.fired("connections reset", "");
        self.world.net.reset_connections();
    }

    /// The lead changes hands several times.
    async fn churn(&mut self) {
        for _ in 0..self.dice.between(1, 3) {
            self.fired("leader deposed", "");
            self.world.log.depose();
            self.last(200, 2_000).await;
        }
    }

    /// A node loses its power, often in the midst of a write.
    async fn crash(&mut self) {
        let node = self.some_place();
        if self.dice.chance(0.5) {
            self.await_sync(node).await;
        }
        self.crash_of(node).await;
    }

    async fn await_sync(&mut self, node: usize) {
        let (what, give_up) = (self.some_sync(), Instant::now() + SYNC_WAIT);
        while !self.world.places[node].disk.is_syncing(node, what) && Instant::now() < give_up {
            sleep(SYNC_LOOK).await;
        }
    }

    fn some_sync(&mut self) -> Synced {
        if self.dice.chance(0.5) { Synced::Name } else { Synced::Bytes }
    }

    async fn crash_of(&mut self, node: usize) {
        self.fired("crash", &node.to_string());
        self.world.crash(node).await;
        self.last(100, 6_000).await;
        self.restart(node);
    }

    fn restart(&self, node: usize) {
        if let Err(error) = self.world.start(node) {
            self.world.judge.violated("harness", format!("node {node} does not start: {error:#}"));
        }
    }

    /// Syncs of a region's objects fail: one, or all for a while. Who writes is told so, and the node goes on; it may lose
    /// its power later.
    async fn fail_syncs(&mut self) {
        let (place, what) = (self.some_place(), self.some_sync());
        let times = if self.dice.chance(0.5) { 1 } else { u64::MAX };
        let disk = self.world.places[place].disk.clone();
        self.world.trace.note("FAULT", &format!("{times} syncs of {place} fail: {what:?}"));
        disk.fail_syncs(what, times);
        self.last(500, 4_000).await;
        disk.fail_syncs(what, 0);
        if self.dice.chance(0.4) {
            self.crash_of(place).await;
        }
    }

    /// The next sync of a node's log fails, and the node ends, as it must.
    async fn fail_sync_of_log(&mut self) {
        let place = self.some_place();
        let Some(node) = self.world.node(place) else { return };
        self.world.log.fail_next_sync(place, true);
        // It may be that it writes nothing.
        let _ = timeout(SYNC_WAIT, node.life.cancelled()).await;
        self.world.log.fail_next_sync(place, false);
        if node.life.is_cancelled() {
            self.fired("node ended after a failed sync of its log", &place.to_string());
            self.world.crash(place).await;
            self.last(100, 3_000).await;
            self.restart(place);
        }
    }

    async fn fill_disk(&mut self) {
        let place = self.some_place();
        let disk = self.world.places[place].disk.clone();
        self.world.trace.note("FAULT", &format!("full disk {place}"));
        disk.set_full(true);
        self.last(500, 5_000).await;
        disk.set_full(false);
    }

    /// A node's store does everything wrong, now and then.
    async fn store_faults(&mut self) {
        let place = self.some_place();
        let Some(node) = self.world.node(place) else { return };
        self.world.trace.note("FAULT", &format!("store of {place}"));
        node.set_store_faults(true);
        self.last(1_000, 6_000).await;
        node.set_store_faults(false);
    }

    /// Objects at rest are damaged.
    async fn rot(&mut self) {
        for _ in 0..self.dice.between(1, 3) {
            self.rot_one().await;
        }
    }

    /// An object at rest is damaged, of a blob that has another good copy.
    async fn rot_one(&mut self) {
        let digests: Vec<_> = self.world.content.digests().copied().collect();
        for _ in 0..8 {
            let Some(digest) = self.dice.pick(&digests).copied() else { return };
            let sound = self.world.sound_copies(&digest).await;
            let size =
                self.world.log.truth(|truth| read::blob(&truth.kv, &digest)).ok().flatten().map_or(0, |b| b.size);
            if sound.len() < 2 || size == 0 {
                continue;
            }
            let Some((region, object)) = self.dice.pick(&sound).cloned() else { return };
            if let Some(disk) = self.world.disk(&region).filter(|disk| disk.damage(&object, size)) {
                disk.excuse(1);
                self.world.trace.note("FAULT", &format!("rot {digest} in {region}"));
                return;
            }
        }
    }

    /// A node applies late.
    async fn lag(&mut self) {
        let (node, by) = (self.some_place(), self.dice.millis(200, 2_500));
        self.fired("node applies late", &node.to_string());
        self.world.log.lag(node, by);
        self.last(1_000, 6_000).await;
        self.world.log.lag(node, Duration::ZERO);
    }

    /// The leaders' clock is off by an hour, and jumps back.
    async fn jump_clock(&mut self) {
        let skew_ms = if self.dice.chance(0.5) { HOUR_MS } else { -HOUR_MS };
        self.fired("clock jump", &skew_ms.to_string());
        self.world.log.set_skew(skew_ms);
        self.last(500, 4_000).await;
        self.world.log.set_skew(0);
    }
}

//! Clients that push, move, delete and pull at all nodes at once, under a seed, and write down what they see.

mod deletes;
mod indexes;
mod lists;
mod pulls;
mod pushes;
mod retries;
mod sessions;
mod tags;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use crate::history::{Kind, Operation, Outcome, Span};

pub(crate) use world::{BlobRead, Gone, Known, Why, World, brought};

/// Between two operations of a client at most: so that many clients overlap instead of one saturating the machine.
const THINK_MS_MAX: u64 = 40;

/// How often a client asks any node instead of its own.
const ELSEWHERE_PERCENT: u32 = 25;

/// How often each kind is chosen, out of the sum.
const WEIGHTS: [(Kind, u32); 14] = [
    (Kind::Push, 10),
    (Kind::ChunkedPush, 7),
    (Kind::TagCas, 9),
    (Kind::TagPut, 7),
    (Kind::TagDelete, 4),
    (Kind::ManifestDelete, 5),
    (Kind::BlobDelete, 4),
    (Kind::Mount, 6),
    (Kind::Retry, 6),
    (Kind::PullTag, 12),
    (Kind::PullDigest, 10),
    (Kind::PullRange, 7),
    (Kind::List, 6),
    (Kind::Referrers, 5),
];

/// Clients that run until they are told to stop.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts so many clients in a world.
    pub(crate) fn start(world: &Arc<World>, clients: usize, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let (world, stop) = (world.clone(), stop.clone());
            let home = number % world.clients.len();
            let mut worker = Worker { world, home, random: StdRng::seed_from_u64(seed ^ ((number as u64 + 1) << 40)) };
            std::thread::spawn(move || worker.run(&stop))
        };
        Self { threads: (0..clients).map(client).collect(), stop }
    }

    /// Ends all clients, after what each has under way.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        // All, also when one of them panicked.
        let ended: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        anyhow::ensure!(ended.iter().all(Result::is_ok), "a client panicked: what it saw is not whole");
        Ok(())
    }
}

/// One client.
struct Worker {
    world: Arc<World>,
    /// The node that it asks most of the time: clients of other nodes go on while one hangs.
    home: usize,
    random: StdRng,
}

impl Worker {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let kind = self.choose();
            let (start, node) = (self.world.recorder.now(), self.node());
            if let Some(outcome) = self.operate(kind, node) {
                let span = Span { node, start, end: self.world.recorder.now() };
                self.world.recorder.add(|h| h.operations.push(Operation { kind, span, outcome }));
            }
            std::thread::sleep(Duration::from_millis(self.random.random_range(0..THINK_MS_MAX)));
        }
    }

    fn choose(&mut self) -> Kind {
        let sum: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.random_range(0..sum);
        for (kind, weight) in WEIGHTS {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        Kind::PullTag
    }

    /// What came of it; `None` when there is nothing yet that it could be done with.
    fn operate(&mut self, kind: Kind, node: usize) -> Option<Outcome> {
        match kind {
            Kind::Push => Some(self.push(node)),
            Kind::ChunkedPush => Some(self.chunked_push(node)),
            Kind::TagCas => self.compare_and_swap(node),
            Kind::TagPut => Some(self.move_tag(node)),
            Kind::TagDelete => Some(self.delete_tag(node)),
            Kind::ManifestDelete => self.delete_manifest(node),
            Kind::BlobDelete => self.delete_blob(node),
            Kind::Mount => self.mount(node),
            Kind::Retry => Some(self.retry(node)),
            Kind::PullTag => Some(self.pull_tag(node)),
            Kind::PullDigest => self.pull_digest(node),
            Kind::PullRange => self.pull_range(node),
            Kind::List => self.list(node),
            Kind::Referrers => self.referrers(node),
        }
    }

    /// The client's own node, or now and then any.
    fn node(&mut self) -> usize {
        if self.chance(ELSEWHERE_PERCENT) { self.random.random_range(0..self.world.clients.len()) } else { self.home }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }
}

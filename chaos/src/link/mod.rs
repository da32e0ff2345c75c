//! Links between nodes: each is a TCP proxy in this process that needs no root. A node advertises the address of its
//! proxy; who is calling is told by the process that holds the other end of the connection. So each direction of
//! each pair of nodes can be cut, slowed and counted by itself, although all peers use one address.

mod condition;
mod owner;
mod proxy;
mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use condition::Condition;
pub(crate) use proxy::Pids;

/// One direction between two nodes: what it is like, and what went over it.
pub(crate) struct Direction {
    condition: watch::Sender<Condition>,
    bytes: AtomicU64,
    /// When the line is free again: all connections share its rate.
    free_at: Mutex<Instant>,
    /// Counts the cuts: a connection that sees it change is reset.
    resets: watch::Sender<u64>,
    /// Connections are reset in mid-stream once so many more bytes have passed; 0 is never.
    reset_after: AtomicU64,
}

impl Direction {
    fn new() -> Self {
        Self {
            condition: watch::Sender::new(Condition::default()),
            bytes: AtomicU64::new(0),
            free_at: Mutex::new(Instant::now()),
            resets: watch::Sender::new(0),
            reset_after: AtomicU64::new(0),
        }
    }

    /// Takes the line for so many bytes; when they are on it.
    fn transmit(&self, condition: Condition, bytes: usize) -> Instant {
        let mut free_at = self.free_at.lock();
        *free_at = Instant::now().max(*free_at) + condition.transmission(bytes);
        *free_at
    }

    /// Counts bytes that are about to be passed on; true when they are where an armed reset has to happen.
    fn count(&self, bytes: u64) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let armed = self.reset_after.load(Ordering::Relaxed);
        if armed == 0 {
            return false;
        }
        let left = armed.saturating_sub(bytes);
        self.reset_after.store(left, Ordering::Relaxed);
        left == 0
    }
}

/// All links of a cluster.
pub(crate) struct Links {
    nodes: usize,
    directions: Vec<Arc<Direction>>,
    runtime: Runtime,
}

impl Links {
    /// Links between so many nodes, none of them faulty.
    pub(crate) fn new(nodes: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("links")
            .enable_all()
            .build()
            .context("cannot start the runtime of the links")?;
        let directions = (0..nodes * nodes).map(|_| Arc::new(Direction::new())).collect();
        Ok(Self { nodes, directions, runtime })
    }

    fn direction(&self, from: usize, to: usize) -> &Arc<Direction> {
        &self.directions[from * self.nodes + to]
    }

    /// Listens for what other nodes send to a node, and passes it on to where the node listens.
    pub(crate) fn open(&self, to: usize, target: SocketAddr, pids: Arc<Mutex<Pids>>) -> anyhow::Result<SocketAddr> {
        let pairs = (0..self.nodes).map(|from| proxy::Pair {
            there: self.direction(from, to).clone(),
            back: self.direction(to, from).clone(),
        });
        let listener = self.runtime.block_on(crate::cluster::ports::listener())?;
        let address = listener.local_addr().context("a listener has no address")?;
        self.runtime.spawn(Arc::new(proxy::Proxy { listener, target, pairs: pairs.collect(), pids }).run());
        Ok(address)
    }

    /// Changes what one direction is like from now on.
    pub(crate) fn set(&self, from: usize, to: usize, condition: Condition) {
        self.direction(from, to).condition.send_replace(condition);
    }

    /// Changes both directions between two nodes.
    pub(crate) fn set_both(&self, a: usize, b: usize, condition: Condition) {
        self.set(a, b, condition);
        self.set(b, a, condition);
    }

    /// Makes all directions what they were at first.
    pub(crate) fn heal(&self) {
        for direction in &self.directions {
            direction.condition.send_replace(Condition::default());
            direction.reset_after.store(0, Ordering::Relaxed);
        }
    }

    /// Resets all connections between two nodes.
    pub(crate) fn reset(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.direction(from, to).resets.send_modify(|n| *n += 1);
        }
    }

    /// Resets the connection that carries the last of the next so many bytes of a direction, in mid-stream.
    pub(crate) fn reset_after(&self, from: usize, to: usize, bytes: u64) {
        self.direction(from, to).reset_after.store(bytes.max(1), Ordering::Relaxed);
    }

    /// Whether a reset that was armed is still to come.
    pub(crate) fn is_armed(&self, from: usize, to: usize) -> bool {
        self.direction(from, to).reset_after.load(Ordering::Relaxed) > 0
    }

    /// Bytes that went from one node to another so far.
    pub(crate) fn bytes(&self, from: usize, to: usize) -> u64 {
        self.direction(from, to).bytes.load(Ordering::Relaxed)
    }
}

//! The network between nodes: who hears whom, how late, and connections over it.

mod pipe;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::judge::Judge;

pub(crate) use pipe::SimDial;

/// The ports of simulated nodes: 7000 and the node's index.
pub(crate) const PORT: u16 = 7_000;

/// All links.
pub(crate) struct Net {
    links: Mutex<Links>,
    changed: watch::Sender<u64>,
    pub(super) acceptors: Mutex<Vec<Option<pipe::Acceptor>>>,
    pub(super) judge: Judge,
}

struct Links {
    /// One way each: from, to.
    cut: Vec<Vec<bool>>,
    /// Milliseconds: the shortest, and how much may come on top; messages overtake each other within it.
    delay: Vec<Vec<(u64, u64)>>,
    /// Share of messages that are lost; of a connection, that are sent again.
    loss: f64,
    /// Raised to break all connections.
    resets: u64,
    dice: Dice,
}

impl Net {
    pub(crate) fn new(nodes: usize, mut dice: Dice, judge: Judge) -> Arc<Self> {
        // Both ways of a link are the same.
        let mut delay: Vec<Vec<(u64, u64)>> = Vec::new();
        for from in 0..nodes {
            let back = delay.iter().map(|ways| ways[from]).collect::<Vec<_>>();
            let there = (from..nodes).map(|_| (dice.between(1, 60), dice.between(1, 20)));
            delay.push(back.into_iter().chain(there).collect());
        }
        let cut = vec![vec![false; nodes]; nodes];
        Arc::new(Self {
            links: Mutex::new(Links { cut, delay, loss: 0.0, resets: 0, dice }),
            changed: watch::Sender::new(0),
            acceptors: Mutex::new((0..nodes).map(|_| None).collect()),
            judge,
        })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.links.lock().cut.len()
    }

    /// Whether what `from` sends arrives at `to`.
    pub(crate) fn hears(&self, from: usize, to: usize) -> bool {
        from == to || !self.links.lock().cut[from][to]
    }

    /// Whether two nodes hear each other.
    pub(crate) fn joined(&self, a: usize, b: usize) -> bool {
        self.hears(a, b) && self.hears(b, a)
    }

    /// How long a message takes; `None` when it never arrives.
    pub(crate) fn carry(&self, from: usize, to: usize) -> Option<Duration> {
        if from == to {
            return Some(Duration::ZERO);
        }
        let mut links = self.links.lock();
        if links.cut[from][to] {
            return None;
        }
        let (loss, (least, more)) = (links.loss, links.delay[from][to]);
        if links.dice.chance(loss) {
            drop(links);
            self.judge.fired("message lost");
            return None;
        }
        Some(links.dice.millis(least, least + more))
    }

    /// The same for bytes of a connection, which are sent again until they arrive: how long until then, or `None`
    /// while the link is cut.
    fn carry_bytes(&self, from: usize, to: usize) -> Option<Duration> {
        let mut links = self.links.lock();
        if links.cut[from][to] {
            return None;
        }
        let (loss, (least, more)) = (links.loss, links.delay[from][to]);
        let again = if links.dice.chance(loss) { 200 } else { 0 };
        Some(links.dice.millis(least, least + more) + Duration::from_millis(again))
    }

    fn resets(&self) -> u64 {
        self.links.lock().resets
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Links)) {
        change(&mut self.links.lock());
        self.changed.send_modify(|version| *version += 1);
    }

    /// Cuts or mends one direction.
    pub(crate) fn set_cut(&self, from: usize, to: usize, cut: bool) {
        self.change(|links| links.cut[from][to] = cut);
    }

    /// Cuts or mends both directions.
    pub(crate) fn set_cut_both(&self, a: usize, b: usize, cut: bool) {
        self.change(|links| (links.cut[a][b], links.cut[b][a]) = (cut, cut));
    }

    /// Adds to the delay of every link.
    pub(crate) fn slow_down(&self, by_ms: u64) {
        self.change(|links| {
            links.delay.iter_mut().flatten().for_each(|(least, more)| (*least, *more) = (*least + by_ms, *more + by_ms))
        });
    }

    /// Takes that away again.
    pub(crate) fn speed_up(&self, by_ms: u64) {
        self.change(|links| {
            links.delay.iter_mut().flatten().for_each(|(least, more)| (*least, *more) = (*least - by_ms, *more - by_ms))
        });
    }

    pub(crate) fn set_loss(&self, loss: f64) {
        self.change(|links| links.loss = loss);
    }

    /// Breaks all connections in mid-stream.
    pub(crate) fn reset_connections(&self) {
        self.change(|links| links.resets += 1);
    }

    /// Mends every cut.
    pub(crate) fn heal(&self) {
        self.change(|links| {
            links.cut.iter_mut().flatten().for_each(|cut| *cut = false);
            links.loss = 0.0;
        });
    }

    /// Whether a node and a majority hear each other. `up` says who runs.
    pub(crate) fn has_majority(&self, node: usize, up: &[bool]) -> bool {
        let nodes = up.len();
        let with = (0..nodes).filter(|other| up[*other] && self.joined(node, *other)).count();
        up[node] && with > nodes / 2
    }
}

//! Failpoints: enumerated from the sources, so that one that is never visited is found.
//!
//! Each round tries some of them on a cluster of its own. Every node is armed with all of them; one that dies is brought
//! back with those at which nobody has died yet. What no node came by in its round is tried again in a later one.

mod names;
mod stimuli;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub(crate) use self::names::literals;
use crate::cluster::{Cluster, NODES, NotBack, READY_WAIT};
use crate::faults::{Fault, Fired, Scene};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Failpoints that one round tries.
const AT_ONCE: usize = 8;
/// Rounds that try the same one.
const TRIES: u32 = 3;
/// Nodes that are armed from their first start die at one of their first so many visits, one of them at its first.
const EARLY_VISITS_MAX: u32 = 5;
/// Those that are armed when clients are at work do so later.
const LATE_VISITS_MAX: u32 = 60;
/// How long nodes may take to come by while clients are at work.
const VISIT_WAIT: Duration = Duration::from_secs(6);
/// Acknowledged operations that show that clients get on.
const AT_WORK: usize = 30;
/// Those after which a round may be judged: however few failpoints it tries, each kind of operation meets them.
const AT_WORK_LAST: usize = 150;
/// How long they may take, with nodes that die again and again.
const AT_WORK_WAIT: Duration = Duration::from_secs(120);
/// What a node writes before it kills itself stands at the end of its log.
const LAST_WORDS_BYTES: usize = 16 << 10;
/// Other threads may write on until it is dead.
const LAST_LINES: usize = 20;
/// SIGKILL: all else is an end that nobody has asked for.
const KILLED: i32 = -9;

/// A failpoint that is tried.
#[derive(Clone, Debug)]
struct Trial {
    name: String,
    /// Rounds that have tried it before.
    tries: u32,
    /// Not before clients are at work.
    late: bool,
}

/// The failpoints of a checkout.
pub(crate) struct Failpoints {
    names: BTreeSet<String>,
    queue: VecDeque<Trial>,
    /// Those of this round at which nobody has died yet.
    pending: Vec<Trial>,
    /// Whether this round arms what is late, too.
    at_work: bool,
    died_at: BTreeSet<String>,
    visited: BTreeSet<String>,
}

impl Failpoints {
    /// All that the sources name, or those of them that begin as is asked, in an order that the seed decides.
    pub(crate) fn of(checkout: &Path, only: Option<&str>, random: &mut StdRng) -> anyhow::Result<Self> {
        let names = names::all(checkout, only)?;
        let trial = |name: &String| Trial { name: name.clone(), tries: 0, late: random.random_bool(0.5) };
        let mut queue: Vec<Trial> = names.iter().map(trial).collect();
        queue.shuffle(random);
        Ok(Self {
            names,
            queue: queue.into(),
            pending: Vec::new(),
            at_work: false,
            died_at: BTreeSet::new(),
            visited: BTreeSet::new(),
        })
    }

    /// Whether each was tried as often as is worth while.
    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.pending.is_empty()
    }

    /// Starts a cluster whose nodes are armed from their very first start.
    pub(crate) fn begin(&mut self, cluster: &mut Cluster, random: &mut StdRng) -> anyhow::Result<()> {
        // A round that broke off has tried nothing to its end.
        self.queue.extend(self.pending.drain(..));
        self.pending = self.queue.drain(..AT_ONCE.min(self.queue.len())).collect();
        self.at_work = false;
        let tried: Vec<&str> = self.pending.iter().map(|trial| &*trial.name).collect();
        println!("  {}", tried.join(", "));
        for node in 0..NODES {
            self.start(cluster, node, random)?;
        }
        self.ready(cluster, random)
    }

    /// What a node is to be armed with.
    fn rules(&self, node: usize, random: &mut StdRng) -> Vec<(String, String)> {
        let due = self.pending.iter().filter(|trial| self.at_work || !trial.late);
        let rules: Vec<String> = due.map(|t| format!("{}=kill@{}", t.name, self.visit(t, node, random))).collect();
        if rules.is_empty() { Vec::new() } else { vec![armed_with(&rules.join(","))] }
    }

    /// At which visit: what was missed before is not to be missed again.
    fn visit(&self, trial: &Trial, node: usize, random: &mut StdRng) -> u32 {
        match trial.tries {
            0 if trial.late => random.random_range(1..=LATE_VISITS_MAX),
            0 if node > 0 => random.random_range(1..=EARLY_VISITS_MAX),
            _ => 1,
        }
    }

    /// Does what brings nodes to the failpoints, until at each of them one has died. All are brought back.
    pub(crate) fn fire(&mut self, scene: &mut Scene<'_>) -> anyhow::Result<()> {
        let start = scene.world.recorder.now();
        self.work(scene, AT_WORK)?;
        self.arm_at_work(scene)?;
        self.wait(scene, VISIT_WAIT)?;
        for stimulus in stimuli::ALL {
            if self.pending.iter().any(|trial| (stimulus.brings)(&trial.name)) {
                (stimulus.go)(self, scene)?;
            }
        }
        // Whoever did not come by so far must not do so while the round is judged.
        self.revive(scene.cluster, scene.random)?;
        for node in 0..NODES {
            if scene.cluster.is_armed(node) {
                scene.cluster.kill_if_it_runs(node)?;
                scene.cluster.start_node(node, &[])?;
            }
        }
        scene.cluster.wait_ready()?;
        self.work(scene, AT_WORK_LAST)?;
        self.conclude(scene);
        scene.fired.push(Fired { fault: Fault::Failpoint, start, end: scene.world.recorder.now() });
        Ok(())
    }

    /// Arms what is to fire under load: each node in turn.
    fn arm_at_work(&mut self, scene: &mut Scene<'_>) -> anyhow::Result<()> {
        self.at_work = true;
        if !self.pending.iter().any(|trial| trial.late) {
            return Ok(());
        }
        for node in 0..NODES {
            self.restart(scene, node)?;
            self.ready(scene.cluster, scene.random)?;
        }
        Ok(())
    }

    /// Kills a node and starts it with what is left.
    fn restart(&mut self, scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
        self.revive(scene.cluster, scene.random)?;
        scene.cluster.kill_if_it_runs(node)?;
        self.start(scene.cluster, node, scene.random)
    }

    /// Starts a node that does not run, with what is left.
    fn start(&self, cluster: &mut Cluster, node: usize, random: &mut StdRng) -> anyhow::Result<()> {
        cluster.start_node(node, &self.rules(node, random))
    }

    /// Brings back the nodes that have died, with what is left; which they are.
    fn revive(&mut self, cluster: &mut Cluster, random: &mut StdRng) -> anyhow::Result<Vec<usize>> {
        let dead = self.pass(cluster)?;
        dead.iter().try_for_each(|node| self.start(cluster, *node, random))?;
        Ok(dead)
    }

    /// Nodes that have died at a failpoint, and do not run now.
    fn pass(&mut self, cluster: &mut Cluster) -> anyhow::Result<Vec<usize>> {
        let mut dead = Vec::new();
        for node in 0..NODES {
            let Some(code) = cluster.ended(node) else { continue };
            let words = cluster.log_end(node, LAST_WORDS_BYTES);
            let Some(name) = killed_at(&words).filter(|_| code == KILLED) else {
                let name = &cluster.desk.nodes[node].name;
                return Err(NotBack(format!("{name} ended with {code}, and no failpoint did it\n{words}")).into());
            };
            self.pending.retain(|trial| trial.name != name);
            self.died_at.insert(name);
            dead.push(node);
        }
        Ok(dead)
    }

    /// Waits until all nodes take pushes, however often they die meanwhile.
    fn ready(&mut self, cluster: &mut Cluster, random: &mut StdRng) -> anyhow::Result<()> {
        let mut until = Instant::now() + READY_WAIT;
        loop {
            if !self.revive(cluster, random)?.is_empty() {
                until = Instant::now() + READY_WAIT;
            }
            let missing = (0..NODES).find(|node| !cluster.client(*node).ready());
            let Some(missing) = missing else { return Ok(()) };
            if Instant::now() > until {
                let name = &cluster.desk.nodes[missing].name;
                return Err(NotBack(format!("{name} is not ready\n{}", cluster.log_tail(missing))).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until clients get something done.
    fn work(&mut self, scene: &mut Scene<'_>, operations: usize) -> anyhow::Result<()> {
        let (recorder, until) = (scene.world.recorder.clone(), Instant::now() + AT_WORK_WAIT);
        let enough = recorder.acknowledged() + operations;
        while recorder.acknowledged() < enough {
            if Instant::now() > until {
                return Err(NotBack(format!("fewer than {operations} operations within {AT_WORK_WAIT:?}")).into());
            }
            self.revive(scene.cluster, scene.random)?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits for deaths and brings back who died. That nobody does is no failure yet.
    fn wait(&mut self, scene: &mut Scene<'_>, wait: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + wait;
        while !self.pending.is_empty() && Instant::now() < until {
            self.revive(scene.cluster, scene.random)?;
            std::thread::sleep(LOOK_EVERY);
        }
        self.ready(scene.cluster, scene.random)
    }

    fn conclude(&mut self, scene: &Scene<'_>) {
        for node in &scene.cluster.desk.nodes {
            let visits = std::fs::read_to_string(node.visits()).unwrap_or_default();
            self.visited.extend(visits.lines().map(str::to_owned));
        }
        let again =
            self.pending.drain(..).filter(|trial| trial.tries + 1 < TRIES && !self.died_at.contains(&trial.name));
        self.queue.extend(again.map(|trial| Trial { tries: trial.tries + 1, late: false, ..trial }));
    }

    /// What no node came by, or survived each time.
    pub(crate) fn never_visited(&self) -> Vec<String> {
        let told =
            self.names.iter().filter_map(|name| match (self.visited.contains(name), self.died_at.contains(name)) {
                (_, true) => None,
                (false, _) => Some(format!("failpoint {name} was never visited")),
                (true, false) => Some(format!("no node died at failpoint {name}")),
            });
        told.collect()
    }
}

fn armed_with(rules: &str) -> (String, String) {
    ("ATOLL_FAILPOINTS".to_owned(), rules.to_owned())
}

/// The failpoint at which a node has killed itself, by its last words.
fn killed_at(words: &str) -> Option<String> {
    let of = |line: &str| Some(line.strip_prefix("failpoint ")?.split_once(": killed at visit ")?.0.to_owned());
    words.lines().rev().take(LAST_LINES).find_map(of)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn of(names: &[&str]) -> Failpoints {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("crates/a/src");
        std::fs::create_dir_all(&source).unwrap();
        let text: String = names.iter().map(|name| format!("failpoint!(\"{name}\");\n")).collect();
        std::fs::write(source.join("a.rs"), text).unwrap();
        Failpoints::of(folder.path(), None, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn what_nobody_came_by_and_what_nobody_died_at_is_told() {
        let mut failpoints = of(&["log.sync.before"]);
        assert_eq!(failpoints.never_visited(), ["failpoint log.sync.before was never visited"]);
        failpoints.visited.insert("log.sync.before".into());
        assert_eq!(failpoints.never_visited(), ["no node died at failpoint log.sync.before"]);
        failpoints.died_at.insert("log.sync.before".into());
        assert!(failpoints.never_visited().is_empty());
    }

    #[test]
    fn late_ones_are_armed_when_clients_are_at_work() {
        let mut failpoints = of(&["a.b", "c.d"]);
        failpoints.pending = failpoints.queue.drain(..).collect();
        failpoints.pending[0].late = true;
        failpoints.pending[1].late = false;
        let random = &mut StdRng::seed_from_u64(1);
        let rules = |failpoints: &Failpoints, random: &mut StdRng| failpoints.rules(0, random)[0].1.clone();
        assert_eq!(rules(&failpoints, random), format!("{}=kill@1", failpoints.pending[1].name));
        failpoints.at_work = true;
        assert_eq!(rules(&failpoints, random).split(',').count(), 2);
        assert!(!failpoints.is_done());
        failpoints.pending.clear();
        assert!(failpoints.rules(0, random).is_empty() && failpoints.is_done());
    }

    #[test]
    fn the_last_words_of_a_node_name_its_failpoint() {
        let words = "{\"level\":\"info\"}\nfailpoint log.append.before: killed at visit 3\n";
        assert_eq!(killed_at(words).as_deref(), Some("log.append.before"));
        assert_eq!(killed_at(&format!("{words}{}", "started again\n".repeat(20))), None);
        assert_eq!(killed_at("thread 'main' panicked at x.rs"), None);
    }
}

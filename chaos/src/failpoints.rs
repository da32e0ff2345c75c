//! Failpoints: enumerated from the sources, so that one that is never visited is found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::cluster::{Cluster, NODES, Options};
use crate::faults::behind::wait_until_behind;
use crate::faults::cut::cut_off;
use crate::faults::{Fault, Fired, Scene};
use crate::link::Condition;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The macros that name failpoints, and what they add to the name.
const MACROS: [(&str, &[&str]); 4] = [
    ("failpoint!(", &[""]),
    ("failpoint_io!(", &[""]),
    ("step!(", &[".before", ".after"]),
    ("step_io!(", &[".before", ".after"]),
];
/// The crate that defines the macro.
const OWN_CRATE: &str = "fault";
/// How long nodes may take to come by a failpoint while clients are at work, and after a fault.
const VISIT_WAIT: Duration = Duration::from_secs(6);
/// Nodes die at one of their first so many visits, one of them at its first.
const VISITS_MAX: u32 = 5;
/// How long a leader is cut off, so that it has entries that the others never get.
const CUT_MS: (u64, u64) = (3_500, 4_500);

/// The failpoints of a checkout, one of which each round tries on a cluster of its own.
pub(crate) struct Failpoints {
    names: Vec<String>,
    next: usize,
    /// What each node is armed with in this round.
    armed: [(String, String); NODES],
    /// Nodes that died in this round.
    deaths: usize,
    died_at: BTreeSet<String>,
    visited: BTreeSet<String>,
}

impl Failpoints {
    /// All that the sources name, or those of them that begin as is asked.
    pub(crate) fn of(checkout: &Path, only: Option<&str>) -> anyhow::Result<Self> {
        let mut names = BTreeSet::new();
        for (begin, ends) in MACROS {
            let found = literals(&checkout.join("crates"), begin)?;
            names.extend(found.iter().flat_map(|name| ends.iter().map(move |end| format!("{name}{end}"))));
        }
        names.retain(|name| only.is_none_or(|only| name.starts_with(only)));
        if names.is_empty() {
            bail!("{} names no such failpoint: is it a checkout that has them?", checkout.display());
        }
        Ok(Self {
            names: names.into_iter().collect(),
            next: 0,
            armed: Default::default(),
            deaths: 0,
            died_at: BTreeSet::new(),
            visited: BTreeSet::new(),
        })
    }

    /// Rounds after which each was tried.
    pub(crate) fn rounds(&self) -> u32 {
        self.names.len() as u32
    }

    fn name(&self) -> &str {
        &self.names[self.next % self.names.len()]
    }

    /// A cluster whose nodes are armed from their very first start.
    pub(crate) fn begin(&mut self, options: &Options, random: &mut StdRng) -> anyhow::Result<Cluster> {
        let visits = [1, random.random_range(1..=VISITS_MAX), random.random_range(2..=VISITS_MAX)];
        self.armed = visits.map(|visit| ("ATOLL_FAILPOINTS".to_owned(), format!("{}=kill@{visit}", self.name())));
        println!("  {}", self.name());
        let (cluster, deaths) = Cluster::start_armed(options.clone(), &self.armed)?;
        self.deaths = deaths;
        Ok(cluster)
    }

    /// Does what brings nodes to the failpoint, until one has died there: clients' work, a leader that is cut off, a
    /// node that needs a snapshot. All are brought back.
    pub(crate) fn fire(&mut self, scene: &mut Scene<'_>) -> anyhow::Result<()> {
        let start = scene.world.recorder.now();
        self.wait(scene)?;
        if self.deaths == 0 {
            let leader = scene.leader();
            cut_off(scene, leader, Condition::cut());
            scene.last(CUT_MS.0, CUT_MS.1);
            scene.cluster.links.heal();
            self.wait(scene)?;
        }
        for node in 0..NODES {
            if self.deaths == 0 {
                self.leave_behind(scene, node)?;
            }
        }
        scene.cluster.wait_ready()?;
        scene.last(500, 1_500);
        self.deaths += scene.cluster.revive()?;
        // Whoever did not come by so far must not do so while the round is judged.
        scene.cluster.disarm()?;
        scene.cluster.wait_ready()?;
        self.conclude(scene);
        scene.fired.push(Fired { fault: Fault::Failpoint, start, end: scene.world.recorder.now() });
        Ok(())
    }

    fn leave_behind(&mut self, scene: &mut Scene<'_>, node: usize) -> anyhow::Result<()> {
        scene.cluster.kill(node)?;
        wait_until_behind(scene)?;
        scene.cluster.start_node(node, &[self.armed[0].clone()])?;
        self.wait(scene)
    }

    /// Waits for a death, and brings back who died. That nobody does is no failure yet.
    fn wait(&mut self, scene: &mut Scene<'_>) -> anyhow::Result<()> {
        let until = Instant::now() + VISIT_WAIT;
        while self.deaths == 0 && Instant::now() < until {
            self.deaths += scene.cluster.revive()?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn conclude(&mut self, scene: &Scene<'_>) {
        for node in &scene.cluster.desk.nodes {
            let visits = std::fs::read_to_string(node.visits()).unwrap_or_default();
            self.visited.extend(visits.lines().map(str::to_owned));
        }
        if self.deaths > 0 {
            self.died_at.insert(self.name().to_owned());
        }
        self.next += 1;
    }

    /// What no node came by, or survived each time.
    pub(crate) fn never_visited(&self) -> Vec<String> {
        let told =
            self.names.iter().filter_map(|name| match (self.visited.contains(name), self.died_at.contains(name)) {
                (false, _) => Some(format!("failpoint {name} was never visited")),
                (true, false) => Some(format!("no node died at failpoint {name}")),
                (true, true) => None,
            });
        told.collect()
    }
}

/// The first argument of a macro wherever it is called with a literal, in the sources of all crates below a folder.
pub(crate) fn literals(crates: &Path, begin: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in entries(crates)?.into_iter().filter(|f| !f.ends_with(OWN_CRATE)) {
        for file in sources(&folder.join("src"))? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            names.extend(called_with(&text, begin));
        }
    }
    Ok(names)
}

fn called_with<'a>(text: &'a str, begin: &'a str) -> impl Iterator<Item = String> + 'a {
    let starts = text.match_indices(begin).filter(|(at, _)| {
        let line = text[..*at].rsplit('\n').next().unwrap_or_default();
        !line.trim_start().starts_with("//") && !line.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    starts.filter_map(|(at, _)| {
        let literal = text[at + begin.len()..].trim_start().strip_prefix('"')?;
        literal.split_once('"').map(|(name, _)| name.to_owned())
    })
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoints_are_found_in_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("crates/storage/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::create_dir_all(folder.path().join("crates/fault/src")).unwrap();
        std::fs::write(
            source.join("a.rs"),
            "fn f() {\n    failpoint!(\"log.sync.before\");\n    // failpoint!(\"no\")\n}\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("crates/fault/src/lib.rs"), "failpoint!(\"own\")").unwrap();
        let mut failpoints = Failpoints::of(folder.path(), None).unwrap();
        assert_eq!(failpoints.names, ["log.sync.before"]);
        assert_eq!(failpoints.never_visited().len(), 1);
        failpoints.visited.insert("log.sync.before".into());
        assert_eq!(failpoints.never_visited(), ["no node died at failpoint log.sync.before"]);
        failpoints.died_at.insert("log.sync.before".into());
        assert!(failpoints.never_visited().is_empty());
        std::fs::write(source.join("a.rs"), "step_io!(\"x.y\", f())").unwrap();
        assert_eq!(Failpoints::of(folder.path(), None).unwrap().names, ["x.y.after", "x.y.before"]);
        assert!(Failpoints::of(folder.path(), Some("other")).is_err());
        std::fs::write(source.join("a.rs"), "").unwrap();
        assert!(Failpoints::of(folder.path(), None).is_err(), "a run without failpoints proves nothing");
    }
}

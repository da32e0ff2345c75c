//! Failpoints: enumerated from the sources, so that one that is never visited is found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rand::RngExt as _;

use crate::cluster::{Cluster, NODES};
use crate::faults::{Fault, Fired, Scene};
use crate::wait::wait_for;

/// The macros that name failpoints, and what they add to the name.
const MACROS: [(&str, &[&str]); 4] = [
    ("failpoint!(", &[""]),
    ("failpoint_io!(", &[""]),
    ("step!(", &[".before", ".after"]),
    ("step_io!(", &[".before", ".after"]),
];
/// The crate that defines the macro.
const OWN_CRATE: &str = "fault";
/// How long a node may take to come by a failpoint that it is armed with.
const VISIT_WAIT: Duration = Duration::from_secs(20);
/// A node is killed at one of its first so many visits.
const VISITS: u32 = 4;
/// Failpoints of one round.
const PER_ROUND: usize = 1;

/// The failpoints of a checkout.
pub(crate) struct Failpoints {
    names: Vec<String>,
    next: usize,
    /// Those at which a node died.
    killed_at: BTreeSet<String>,
    visited: BTreeSet<String>,
}

impl Failpoints {
    /// All that the sources name, or the only one of them that is asked for.
    pub(crate) fn of(checkout: &Path, only: Option<&str>) -> anyhow::Result<Self> {
        let mut names = BTreeSet::new();
        for (begin, ends) in MACROS {
            let found = literals(&checkout.join("crates"), begin)?;
            names.extend(found.iter().flat_map(|name| ends.iter().map(move |end| format!("{name}{end}"))));
        }
        names.retain(|name| only.is_none_or(|only| only == name));
        if names.is_empty() {
            bail!("{} names no failpoint: is it a checkout that has them?", checkout.display());
        }
        Ok(Self { names: names.into_iter().collect(), next: 0, killed_at: BTreeSet::new(), visited: BTreeSet::new() })
    }

    /// Rounds after which each was tried.
    pub(crate) fn rounds(&self) -> u32 {
        self.names.len().div_ceil(PER_ROUND) as u32
    }

    /// Kills a node at the next failpoint, and starts it again.
    pub(crate) fn fire(&mut self, scene: &mut Scene<'_>) -> anyhow::Result<()> {
        let name = self.names[self.next % self.names.len()].clone();
        self.next += 1;
        let start = scene.world.recorder.now();
        for node in 0..NODES {
            // Some failpoints only a leader passes, or one that catches up: each node is tried until one dies.
            if self.kill_at(scene, node, &name)? {
                self.killed_at.insert(name.clone());
                break;
            }
        }
        self.collect(scene.cluster);
        scene.fired.push(Fired { fault: Fault::Failpoint, start, end: scene.world.recorder.now() });
        Ok(())
    }

    fn kill_at(&self, scene: &mut Scene<'_>, node: usize, name: &str) -> anyhow::Result<bool> {
        scene.cluster.kill(node)?;
        let visit = scene.random.random_range(1..=VISITS);
        scene.cluster.start_node(node, &[("ATOLL_FAILPOINTS".to_owned(), format!("{name}=kill@{visit}"))])?;
        let died = wait_for("a node dies at its failpoint", VISIT_WAIT, || scene.cluster.ended(node)).is_ok();
        if !died {
            scene.cluster.kill(node)?;
        }
        scene.cluster.start_node(node, &[])?;
        scene.cluster.wait_node_ready(node)?;
        Ok(died)
    }

    fn collect(&mut self, cluster: &Cluster) {
        for node in &cluster.desk.nodes {
            let visits = std::fs::read_to_string(node.visits()).unwrap_or_default();
            self.visited.extend(visits.lines().map(str::to_owned));
        }
    }

    /// What no node came by, or survived each time.
    pub(crate) fn never_visited(&self) -> Vec<String> {
        let told =
            self.names.iter().filter_map(|name| match (self.visited.contains(name), self.killed_at.contains(name)) {
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
        failpoints.killed_at.insert("log.sync.before".into());
        assert!(failpoints.never_visited().is_empty());
        std::fs::write(source.join("a.rs"), "step_io!(\"x.y\", f())").unwrap();
        assert_eq!(Failpoints::of(folder.path(), None).unwrap().names, ["x.y.after", "x.y.before"]);
        assert!(Failpoints::of(folder.path(), Some("other")).is_err());
        std::fs::write(source.join("a.rs"), "").unwrap();
        assert!(Failpoints::of(folder.path(), None).is_err(), "a run without failpoints proves nothing");
    }
}

//! Syncs of blobs that fail on a node that lives on: whoever pushes is told, and what was fetched is fetched again.
//!
//! `strace` would fail a sync of the log sooner or later, of which a node ends; failpoints name what they fail.

use std::time::Duration;

use rand::RngExt as _;

use super::Scene;
use super::words::Words;
use crate::cluster::NotBack;
use crate::wait::wait_for;

/// The failpoints: before a blob's bytes are synced, before the folder of its name is, and before a part of an upload is
/// whose client lets it wait.
pub(super) const STEPS: [&str; 3] = ["object.sync.before", "object.folder.before", "object.park.before"];
/// How often each fails.
const FAILURES: u64 = 2;
/// The latest visit that is the first to fail.
const FIRST_MAX: u64 = 4;
/// How long clients may take to bring the node there.
const MEETS_WITHIN: Duration = Duration::from_secs(90);

/// A node is started again with syncs of blobs that fail, and lives on.
pub(super) fn fail(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    scene.cluster.kill(node)?;
    let mut words = Words::from_now(scene, node);
    let armed: Vec<Armed> =
        STEPS.into_iter().flat_map(|step| armed(scene.random.random_range(1..=FIRST_MAX), step)).collect();
    let rules: Vec<String> = armed.iter().map(Armed::rule).collect();
    scene.cluster.start_node(node, &[("ATOLL_FAILPOINTS".to_owned(), rules.join(","))])?;
    scene.cluster.wait_node_ready(node)?;
    let mut pending = armed;
    let met = wait_for("syncs of blobs fail", MEETS_WITHIN, || {
        let said = words.fresh();
        pending.retain(|armed| !said.contains(&armed.told()));
        (pending.is_empty() || !scene.cluster.is_alive(node)).then_some(())
    });
    // What it has refused is asked for again.
    scene.last(1_000, 3_000);
    if let Some(code) = scene.cluster.ended(node) {
        let told = format!("node {node} ended with {code}, and nothing but syncs of blobs has failed");
        return Err(NotBack(format!("{told}\n{}", scene.cluster.log_tail(node))).into());
    }
    STEPS.into_iter().filter(|step| pending.iter().all(|left| left.step != *step)).for_each(|step| scene.met(step));
    if let Err(error) = met {
        let left: Vec<String> = pending.iter().map(Armed::rule).collect();
        scene.missed(format!("{error:#}: {}", left.join(", ")));
        // What is left must not fail while the round is judged.
        scene.cluster.kill(node)?;
        scene.cluster.start_node(node, &[])?;
    }
    scene.cluster.wait_node_ready(node)
}

/// A failpoint that fails at a visit.
struct Armed {
    step: &'static str,
    visit: u64,
}

fn armed(first: u64, step: &'static str) -> impl Iterator<Item = Armed> {
    (first..first + FAILURES).map(move |visit| Armed { step, visit })
}

impl Armed {
    /// As `ATOLL_FAILPOINTS` has it.
    fn rule(&self) -> String {
        format!("{}=error@{}", self.step, self.visit)
    }

    /// What the node says when it has failed there.
    fn told(&self) -> String {
        format!("failpoint {}: visit {} fails", self.step, self.visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_fails_so_often_and_no_more() {
        let rules: Vec<String> = armed(3, "a.b.before").map(|armed| armed.rule()).collect();
        assert_eq!(rules, ["a.b.before=error@3", "a.b.before=error@4"]);
        assert_eq!(Armed { step: "a.b.before", visit: 3 }.told(), "failpoint a.b.before: visit 3 fails");
    }
}

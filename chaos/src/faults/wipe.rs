//! A data folder that is lost.

use std::time::Duration;

use anyhow::Context;

use super::Scene;
use crate::wait::wait_for;

/// How long a node may take to learn from its peers that it is not who it was.
const REFUSAL_WAIT: Duration = Duration::from_secs(40);

/// A node comes back with an empty folder: it is refused as its old self. Then the lost disk is found and mounted.
pub(super) fn wipe(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    scene.cluster.desk.set_away(node, true);
    scene.cluster.kill(node)?;
    let (data, aside) = (scene.cluster.desk.nodes[node].data(), scene.cluster.desk.nodes[node].folder.join("aside"));
    std::fs::rename(&data, &aside).context("cannot take a data folder away")?;
    scene.last(0, 1_500);
    scene.cluster.start_node(node, &[])?;
    let client = scene.cluster.client(node);
    let mut took_part = false;
    let mut code = None;
    let ended = wait_for("an emptied node is refused", REFUSAL_WAIT, || {
        took_part |= client.ready();
        code = scene.cluster.ended(node);
        code.map(drop)
    });
    if took_part || ended.is_err() || code != Some(1) {
        let what = format!("node {node} with an emptied folder: took part {took_part}, ended with {code:?}");
        scene.found.push(("I12", what));
        scene.cluster.kill_if_it_runs(node)?;
    }
    std::fs::remove_dir_all(&data).context("cannot take the empty folder away")?;
    std::fs::rename(&aside, &data).context("cannot put a data folder back")?;
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)?;
    scene.cluster.desk.set_away(node, false);
    Ok(())
}

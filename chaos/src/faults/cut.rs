//! Links that are cut, wholly or one way.

use std::time::Duration;

use rand::RngExt as _;

use super::Scene;
use crate::client::Client;
use crate::cluster::{NODES, NotBack, READY_WAIT};
use crate::history::{Probe, Span};
use crate::link::Condition;
use crate::stores::Stores;
use crate::wait::wait_for;
use crate::workload::{Known, brought};

/// Beyond the time after which a node without a quorum is read-only: rounds, and a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// Pulls and writes that a cut-off node is asked for.
const PROBES: usize = 6;
const FLAPS: usize = 6;
/// Longer than a node waits for what becomes of the copy that it has asked to be recorded.
const INWARDS_MS: (u64, u64) = (12_000, 14_000);

/// A node is cut off until it says so; then it is asked for what it holds, and to write.
pub(super) fn off(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    // A link has two ends, and a node has links to all others.
    scene.touches(0..NODES);
    let held = wait_for("a node holds what it can be asked for", READY_WAIT, || {
        Some(held(scene, node)).filter(|held| held.len() >= PROBES)
    })
    .map_err(|error| NotBack(format!("node {node}: {error:#}")))?;
    // Long enough for the records of these copies to be applied there.
    scene.last(1_500, 2_500);
    cut_off(scene, node, Condition::cut());
    let client = scene.cluster.client(node);
    let known = wait_for("a cut-off node knows it", scene.cluster.options.timing.quorum_window() + SLACK, || {
        is_read_only(&client).then_some(())
    });
    if let Err(error) = known {
        scene.found.push(("I6", format!("node {node}: {error:#}")));
    } else {
        probe(scene, &client, &held);
        look_at_lag(scene, node);
    }
    scene.last(200, 3_000);
    scene.cluster.links.heal();
    scene.cluster.wait_node_ready(node)
}

pub(crate) fn cut_off(scene: &Scene<'_>, node: usize, condition: Condition) {
    for other in (0..NODES).filter(|o| *o != node) {
        scene.cluster.links.set_both(node, other, condition);
    }
}

fn is_read_only(client: &Client) -> bool {
    let reply = client.get("/readyz?for=push", &[]);
    reply.status() == 503 && reply.text().contains("read-only")
}

/// Images of which the node's own store has every blob.
fn held(scene: &Scene<'_>, node: usize) -> Vec<Known> {
    let mut known = scene.world.known();
    let store = Stores::default().read(&scene.cluster.desk.nodes[node]);
    known.retain(|k| k.image.blobs.iter().all(|b| store.digests.contains(&b.digest.to_string())));
    known
}

/// A cut-off node knows the lag as of what it has: there may be more.
fn look_at_lag(scene: &mut Scene<'_>, node: usize) {
    let Ok((revision, regions)) = scene.cluster.desk.lag(node) else { return };
    let sure = regions.iter().filter(|r| r.known.as_deref() == Some("exactly"));
    scene.found.extend(sure.map(|r| {
        ("I7", format!("cut-off node {node} says at revision {revision} that it knows exactly what {} lacks", r.region))
    }));
}

fn probe(scene: &mut Scene<'_>, client: &Client, held: &[Known]) {
    let recorder = &scene.world.recorder;
    for image in held.iter().rev().step_by((held.len() / PROBES).max(1)).take(PROBES) {
        let start = recorder.now();
        let blob = image.image.blobs[0];
        let reply = client.get(&format!("/v2/{}/blobs/{}", image.repository, blob.digest), &[]);
        let brought = brought(&reply, || blob.content());
        let span = Span { node: client.node, start, end: recorder.now() };
        // Somebody may have deleted it meanwhile, with a majority.
        if scene.world.known().iter().any(|k| k.image.digest == image.image.digest) {
            let warned = reply.header("warning").contains("read-only");
            let probe = Probe {
                span,
                write: false,
                status: reply.status(),
                brought: Some(brought),
                warned,
                text: reply.text(),
            };
            recorder.add(|h| h.probes.push(probe));
        }
        let start = recorder.now();
        let path = format!("/v2/cut/off/manifests/{}", image.image.digest);
        let writes = [
            client.call("PUT", &path, &[("content-type", crate::content::MANIFEST)], &image.image.manifest),
            client.call("POST", "/v2/cut/off/blobs/uploads/", &[], b""),
            client.call("DELETE", &format!("/v2/{}/manifests/none", image.repository), &[], b""),
        ];
        let end = recorder.now();
        for reply in writes {
            let span = Span { node: client.node, start, end };
            let probe =
                Probe { span, write: true, status: reply.status(), brought: None, warned: true, text: reply.text() };
            recorder.add(|h| h.probes.push(probe));
        }
    }
}

/// What a node sends is lost, or what it is sent.
pub(super) fn one_way(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, outwards) = (scene.node(), scene.random.random_bool(0.5));
    scene.touches(0..NODES);
    for other in (0..NODES).filter(|o| *o != node) {
        let (from, to) = if outwards { (node, other) } else { (other, node) };
        scene.cluster.links.set(from, to, Condition::cut());
    }
    if outwards {
        scene.last(4_000, 9_000)
    } else {
        scene.last(INWARDS_MS.0, INWARDS_MS.1)
    }
    scene.cluster.links.heal();
    scene.cluster.wait_ready()
}

/// Two nodes lose each other; the third is the bridge.
pub(super) fn bridge(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let middle = scene.node();
    let (a, b) = ((middle + 1) % NODES, (middle + 2) % NODES);
    scene.touches([a, b]);
    scene.cluster.links.set_both(a, b, Condition::cut());
    scene.last(4_000, 9_000);
    scene.cluster.links.heal();
    scene.cluster.wait_ready()
}

/// A node comes and goes.
pub(super) fn flapping(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches(0..NODES);
    for _ in 0..FLAPS {
        cut_off(scene, node, Condition::cut());
        scene.last(50, 1_200);
        scene.cluster.links.heal();
        scene.last(50, 600);
    }
    scene.cluster.wait_ready()
}

//! More than a node may keep: upload sessions that nobody uses, and more than a GiB of pulls.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Scene;
use crate::cluster::NotBack;
use crate::content::Blob;
use crate::history::{Brought, Outcome};
use crate::watch::resident_bytes;
use crate::workload::BlobRead;

const THREADS: usize = 4;
/// How long that many may take.
const OPENED_WITHIN: Duration = Duration::from_secs(120);
/// One more than may be open at a node.
const SESSIONS: u64 = 10_001;
const PULLED_BYTES: u64 = 1_200 << 20;
const BLOB_BYTES: usize = 4 << 20;
/// What caches may grow by meanwhile; a node that kept what it sent would grow by all of it.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

/// Sessions beyond the bound are refused with 429. They end with their node.
pub(super) fn sessions(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let client = scene.cluster.client(node);
    let (opened, refused, until) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now() + OPENED_WITHIN);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let is_due = || opened.load(Ordering::Relaxed) < SESSIONS && Instant::now() < until;
                while !refused.load(Ordering::Relaxed) && is_due() {
                    match client.call("POST", "/v2/storm/sessions/blobs/uploads/", &[], b"").status() {
                        202 => opened.fetch_add(1, Ordering::Relaxed),
                        429 => u64::from(refused.swap(true, Ordering::Relaxed)),
                        _ => 0,
                    };
                }
            });
        }
    });
    match (refused.into_inner(), opened.into_inner()) {
        (true, _) => {}
        (false, opened) if opened < SESSIONS => {
            let told =
                format!("node {node} opened {opened} upload sessions within {OPENED_WITHIN:?}, and refused none");
            return Err(NotBack(told).into());
        }
        (false, opened) => scene.found.push(("I13", format!("node {node} opened {opened} upload sessions"))),
    }
    // With so many of them it serves everybody else.
    scene.last(3_000, 5_000);
    scene.cluster.kill(node)?;
    scene.cluster.start_node(node, &[])?;
    scene.cluster.wait_node_ready(node)
}

/// Memory does not grow with what is pulled.
pub(super) fn pulls(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let (node, blob) = (scene.node(), Blob::new(scene.world.seed(), BLOB_BYTES));
    scene.touches([node]);
    if scene.world.push_blob(node, "storm/pulls", &blob) != Outcome::Ok {
        return Err(NotBack("a blob cannot be pushed while nothing is faulty".to_owned()).into());
    }
    let pid = scene.cluster.pid(node).context("a node that runs has a process")?;
    let before = resident_bytes(pid).context("a node that runs has memory")?;
    let left = AtomicU64::new(PULLED_BYTES / BLOB_BYTES as u64);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    let brought = scene.world.read_blob(node, &BlobRead::whole("storm/pulls", &blob));
                    failed.fetch_add(u64::from(brought != Brought::Right), Ordering::Relaxed);
                }
            });
        }
    });
    let grown = resident_bytes(pid).context("a node that runs has memory")?.saturating_sub(before);
    println!("  {} MiB pulled from node {node}: {} MiB more resident", PULLED_BYTES >> 20, grown >> 20);
    if grown > GROWTH_BYTES_MAX {
        scene.found.push(("I13", format!("node {node} grew by {grown} bytes while {PULLED_BYTES} were pulled")));
    }
    match failed.into_inner() {
        0 => Ok(()),
        failed => Err(NotBack(format!("{failed} pulls of a blob failed while nothing was faulty")).into()),
    }
}

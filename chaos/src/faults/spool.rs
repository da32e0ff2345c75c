//! Clients that take nothing of what their region has to get from elsewhere.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Scene;
use super::replication::tell;
use crate::cluster::spec::REGIONS;
use crate::cluster::{NODES, NotBack, READY_WAIT};
use crate::content::Blob;
use crate::history::Outcome;
use crate::wait::wait_for;
use crate::watch::spooled_bytes;

/// What nodes of this run may spool (`spool_bytes_max`): one of the blobs.
pub(crate) const SPOOL_BYTES_MAX: u64 = 16 << 20;
/// More than the kernel's buffers of a connection take.
const BLOB_BYTES: usize = 12 << 20;
const BLOBS: usize = 5;
/// Part of a file system's block, of each file.
const SLACK_BYTES: u64 = 1 << 20;
const LOOK_FOR: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const REPOSITORY: &str = "storm/spool";

/// A region fetches nothing by itself, and is asked for blobs that only others have, by clients that do not read on.
pub(super) fn slow_clients(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let node = scene.node();
    scene.touches([node]);
    let source = (node + 1) % NODES;
    tell(scene, source, "pause", REGIONS[node])?;
    let mut clients = Vec::new();
    for _ in 0..BLOBS {
        let blob = Blob::new(scene.world.seed(), BLOB_BYTES);
        // A client of a busy machine may give up in the midst of so many bytes.
        let push = || (scene.world.push_blob(source, REPOSITORY, &blob) == Outcome::Ok).then_some(());
        wait_for("a blob is pushed while nothing is faulty", READY_WAIT, push)
            .map_err(|error| NotBack(format!("{error:#}")))?;
        clients.push(ask(scene, node, &blob)?);
    }
    let pid = scene.cluster.pid(node).context("a node that runs has a process")?;
    let (until, mut most) = (Instant::now() + LOOK_FOR, 0);
    while Instant::now() < until {
        most = most.max(spooled_bytes(pid));
        std::thread::sleep(LOOK_EVERY);
    }
    println!("  node {node} spooled {} MiB of {} MiB", most >> 20, (BLOBS * BLOB_BYTES) >> 20);
    anyhow::ensure!(most > 0, "node {node} has spooled nothing, so that nothing was tried");
    if most > SPOOL_BYTES_MAX + SLACK_BYTES {
        scene.found.push(("I13", format!("node {node} spooled {most} bytes; at most {SPOOL_BYTES_MAX}")));
    }
    drop(clients);
    tell(scene, source, "resume", REGIONS[node])?;
    scene.cluster.wait_ready()
}

/// A request whose answer is not read beyond its beginning.
fn ask(scene: &Scene<'_>, node: usize, blob: &Blob) -> anyhow::Result<TcpStream> {
    let address = scene.cluster.desk.nodes[node].listen.http;
    let mut stream = TcpStream::connect(address).context("a node that is ready does not listen")?;
    stream.set_read_timeout(Some(LOOK_FOR)).context("a connection takes no deadline")?;
    let head = format!("GET /v2/{REPOSITORY}/blobs/{} HTTP/1.1\r\nhost: {address}\r\n\r\n", blob.digest);
    stream.write_all(head.as_bytes()).context("a request cannot be sent")?;
    // However it is answered, or not yet: those that the spool has no room for wait for their turn.
    let _ = stream.read(&mut [0; 1024]);
    Ok(stream)
}

//! From an acknowledged push in one region to what is seen in the others, one push at a time.
//!
//! The clock starts when the client has read the acknowledgement in the first region, and stops when a client of
//! another region has read the answer that shows it. So a figure contains the request that found it, and can only be
//! too large.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hyper::StatusCode;
use serde::Deserialize;

use crate::content::{Blob, LayerMaker, MIB, Manifest, PULL};
use crate::http::{Client, Payload};
use crate::latency::Latencies;
use crate::push;
use crate::rows::{Seen, blob_path, manifest_path};
use crate::servers::Server;
use crate::verify::blob_digest;

/// How long anything may take to be seen.
const DEADLINE: Duration = Duration::from_secs(30);
/// The node that is asked for what regions lack: not the one that is pushed to.
const ASKED: usize = 1;

/// Pushes and waits for so long; yields a latency for each push and other region.
pub(crate) async fn run(seen: Seen, server: &Server, time: Duration) -> anyhow::Result<Latencies> {
    let mut pusher = Client::connect(server.http[0]).await?;
    let mut others = Vec::new();
    for address in &server.http[1..] {
        others.push(Client::connect(*address).await?);
    }
    match seen {
        Seen::NewTag => tags(&mut pusher, others, time, |number| format!("new-{number}")).await,
        Seen::MovedTag => tags(&mut pusher, others, time, |_| "moved".to_owned()).await,
        Seen::Blob => blobs(&mut pusher, others, server, time).await,
    }
}

async fn tags(
    pusher: &mut Client,
    mut others: Vec<Client>,
    time: Duration,
    name: impl Fn(usize) -> String,
) -> anyhow::Result<Latencies> {
    let manifests = two_manifests(pusher).await?;
    let mut latencies = Latencies::new()?;
    let start = Instant::now();
    for number in 0.. {
        // Each push names another manifest than the one before.
        let (tag, manifest) = (name(number), &manifests[number % manifests.len()]);
        push::manifest(pusher, PULL, &tag, &manifest.body).await?;
        let acknowledged = Instant::now();
        let path = manifest_path(&tag);
        let watchers = others.iter_mut().map(|other| visible(other, &path, &manifest.digest, acknowledged));
        for latency in futures::future::try_join_all(watchers).await? {
            latencies.record(latency);
        }
        if start.elapsed() > time {
            break;
        }
    }
    Ok(latencies)
}

/// Two images of the same blobs.
async fn two_manifests(client: &mut Client) -> anyhow::Result<[Manifest; 2]> {
    let (config, layer) = (Blob::new(31, 512), Blob::new(32, 4096));
    for blob in [&config, &layer] {
        push::blob(client, PULL, &blob.digest, Payload::of(blob.frames(), blob.len)).await?;
    }
    let of = |blob: &Blob| (blob.digest.clone(), blob.len);
    let ((config, c), (layer, l)) = (of(&config), of(&layer));
    Ok([Manifest::of((&config, c), &[(&layer, l)]), Manifest::of((&config, c), &[(&layer, l), (&layer, l)])])
}

/// Asks without pause until the tag names the manifest.
async fn visible(client: &mut Client, path: &str, digest: &str, since: Instant) -> anyhow::Result<Duration> {
    loop {
        let answer = client.get(path).await?;
        let elapsed = since.elapsed();
        ensure!(
            matches!(answer.status, StatusCode::OK | StatusCode::NOT_FOUND),
            "{path}: {} while it is waited for",
            answer.status
        );
        if answer.status == StatusCode::OK && crate::content::digest_of(&answer.body) == digest {
            return Ok(elapsed);
        }
        if elapsed > DEADLINE {
            bail!("{path} does not name {digest} within {DEADLINE:?}");
        }
    }
}

/// A blob is present in a region when the replicated state has a copy of it there: `replication status`, asked of a
/// node that has applied the push, says that the region lacks none.
async fn blobs(
    pusher: &mut Client,
    mut others: Vec<Client>,
    server: &Server,
    time: Duration,
) -> anyhow::Result<Latencies> {
    let layers = LayerMaker::new(33, MIB);
    let mut latencies = Latencies::new()?;
    let start = Instant::now();
    while start.elapsed() < time {
        let layer = layers.fresh();
        let answer = push::blob(pusher, PULL, &layer.digest, Payload::of(layer.frames(), layer.len)).await?;
        let acknowledged = Instant::now();
        let revision = answer.header("atoll-revision").context("a push without Atoll-Revision")?.parse()?;
        for latency in present(server, revision, others.len(), acknowledged).await? {
            latencies.record(latency);
        }
        for other in &mut others {
            let (status, digest) = blob_digest(other, &blob_path(&layer.digest)).await?;
            ensure!((status, &digest) == (StatusCode::OK, &layer.digest), "{}: {status} with {digest}", layer.digest);
        }
    }
    Ok(latencies)
}

/// When each of the other regions had all blobs of a revision.
async fn present(server: &Server, revision: u64, others: usize, since: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut found = Vec::new();
    while found.len() < others {
        let status = replication_status(server).await?;
        let elapsed = since.elapsed();
        // The region of the push has what it lacks none of from the beginning.
        let complete = status.regions.iter().filter(|region| region.is_complete()).count();
        if status.revision >= revision {
            found.resize(complete.saturating_sub(1).max(found.len()), elapsed);
        }
        if elapsed > DEADLINE {
            bail!("revision {revision} is not present in all regions within {DEADLINE:?}");
        }
    }
    Ok(found)
}

#[derive(Debug, Deserialize)]
struct Status {
    revision: u64,
    regions: Vec<Region>,
}

#[derive(Debug, Deserialize)]
struct Region {
    known: Option<String>,
    blobs: u64,
}

impl Region {
    /// Whether it lacks nothing, for certain.
    fn is_complete(&self) -> bool {
        self.known.as_deref() == Some("exactly") && self.blobs == 0
    }
}

async fn replication_status(server: &Server) -> anyhow::Result<Status> {
    let node = format!("http://{}", server.admin[ASKED]);
    let mut command = tokio::process::Command::new(&server.cli);
    command.args(["--node", &node, "--output", "json", "replication", "status"]).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("cannot run {}", server.cli.display()))?;
    if !output.status.success() {
        bail!("replication status: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("replication status is not the JSON that is documented")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replication_status_says_is_understood() {
        let text = r#"{"revision":7,"staleness_ms":3,"regions":[
            {"region":"us-east","known":"exactly","blobs":0,"bytes":0,"oldest_age_ms":null},
            {"region":"eu-west","known":"at-least","blobs":0,"bytes":9,"oldest_age_ms":4}]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.revision, 7);
        assert_eq!(status.regions.iter().filter(|region| region.is_complete()).count(), 1);
    }
}

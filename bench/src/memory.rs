//! The peak of a node's memory while many clients push and then pull blobs of 1 GiB.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hyper::StatusCode;

use crate::content::PULL;
use crate::content::{GIB, LayerMaker};
use crate::http::{Client, Payload};
use crate::latency::Latencies;
use crate::push::blob;
use crate::rows::blob_path;
use crate::verify::blob_digest;

/// Each client pushes a blob of its own and pulls it; yields the latencies of both together and the time it took.
pub(crate) async fn run(address: SocketAddr, clients: usize) -> anyhow::Result<(Latencies, Duration)> {
    let start = Instant::now();
    let layers = LayerMaker::new(21, GIB);
    let clients = (0..clients).map(|_| tokio::spawn(client(address, layers.clone())));
    let mut latencies = Latencies::new()?;
    for client in futures::future::try_join_all(clients).await? {
        latencies.record(client?);
    }
    Ok((latencies, start.elapsed()))
}

async fn client(address: SocketAddr, layers: LayerMaker) -> anyhow::Result<Duration> {
    let layer = layers.fresh();
    let mut client = Client::connect(address).await?;
    let begin = Instant::now();
    blob(&mut client, PULL, &layer.digest, Payload::of(layer.frames(), layer.len)).await?;
    let (status, digest) = blob_digest(&mut client, &blob_path(&layer.digest)).await?;
    ensure!((status, &digest) == (StatusCode::OK, &layer.digest), "{}: {status} with {digest}", layer.digest);
    Ok(begin.elapsed())
}

//! Pushing as clients do it: each blob by a session and one PUT, then the manifest; and the load of many at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use rand::Rng;

use crate::content::{
    Blob, Content, FreshLayer, Image, LayerMaker, MANIFEST_TYPE, Manifest, PULL, TAGS, TAGS_COUNT, digest_of,
    listed_tag,
};
use crate::http::{Answer, Client, Payload, path_of, with_parameter};
use crate::latency::Latencies;

/// How many at once while content is loaded.
const LOADERS: usize = 16;
/// Tags at a server of one put each.
const TAG_TURNS: usize = TAGS_COUNT.div_ceil(LOADERS);

/// Stores a blob: `POST`, then `PUT` with all of its bytes.
pub(crate) async fn blob(
    client: &mut Client,
    repository: &str,
    digest: &str,
    payload: Payload,
) -> anyhow::Result<Answer> {
    let start = format!("/v2/{repository}/blobs/uploads/");
    let opened = client.expect(StatusCode::ACCEPTED, Method::POST, &start, &[], Payload::empty()).await?;
    let location = opened.header("location").context("a session without Location")?;
    let target = with_parameter(&path_of(location)?, "digest", digest);
    let binary = [("content-type", "application/octet-stream")];
    client.expect(StatusCode::CREATED, Method::PUT, &target, &binary, payload).await
}

/// Puts a manifest under a tag or its digest.
pub(crate) async fn manifest(
    client: &mut Client,
    repository: &str,
    reference: &str,
    body: &Bytes,
) -> anyhow::Result<Answer> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let typed = [("content-type", MANIFEST_TYPE)];
    client.expect(StatusCode::CREATED, Method::PUT, &path, &typed, Payload::whole(body)).await
}

async fn store(client: &mut Client, repository: &str, stored: &Blob) -> anyhow::Result<()> {
    blob(client, repository, &stored.digest, Payload::of(stored.frames(), stored.len)).await.map(drop)
}

pub(crate) async fn image(client: &mut Client, repository: &str, tag: &str, image: &Image) -> anyhow::Result<()> {
    store(client, repository, &image.config).await?;
    store(client, repository, &image.layer).await?;
    manifest(client, repository, tag, &image.manifest.body).await.map(drop)
}

/// Pushes all that the pulls of a run ask for.
pub(crate) async fn load(address: SocketAddr, content: &Content) -> anyhow::Result<()> {
    let mut client = Client::connect(address).await?;
    image(&mut client, PULL, "v1", &content.small).await?;
    for loose in content.loose() {
        store(&mut client, PULL, loose).await?;
    }
    for (mixed, (mb, _)) in content.mixed.iter().zip(crate::content::MIXED) {
        image(&mut client, PULL, &mb.to_string(), mixed).await?;
    }
    if content.tags {
        image(&mut client, TAGS, &listed_tag(0), &content.small).await?;
        let loaders = (0..LOADERS).map(|loader| tags(address, loader * TAG_TURNS, &content.small.manifest));
        futures::future::try_join_all(loaders).await?;
    }
    Ok(())
}

async fn tags(address: SocketAddr, first: usize, image: &Manifest) -> anyhow::Result<()> {
    let mut client = Client::connect(address).await?;
    for number in first..(first + TAG_TURNS).min(TAGS_COUNT) {
        manifest(&mut client, TAGS, &listed_tag(number), &image.body).await?;
    }
    Ok(())
}

/// A new image each time, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Pusher {
    layers: LayerMaker,
    /// Clients at once, each over a connection of its own to a repository of its own.
    at_once: usize,
}

/// What was pushed.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// Of whole images, from the first byte of the first blob to the manifest's answer.
    pub(crate) latencies: Latencies,
    /// From the first to the last answer.
    pub(crate) elapsed: Duration,
}

/// When a client ends; each ends the push that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Time(Duration),
    /// Images in all.
    Count(usize),
}

impl Pusher {
    pub(crate) fn new(layer: u64, at_once: usize) -> Self {
        Self { layers: LayerMaker::new(11, layer), at_once }
    }

    pub(crate) async fn run(&self, address: SocketAddr, until: Until) -> anyhow::Result<Pushed> {
        let start = Instant::now();
        let clients = (0..self.at_once).map(|number| tokio::spawn(self.clone().client(address, number, until)));
        let mut latencies = Latencies::new()?;
        for client in futures::future::try_join_all(clients).await? {
            latencies.add(&client?)?;
        }
        Ok(Pushed { latencies, elapsed: start.elapsed() })
    }

    async fn client(self, address: SocketAddr, number: usize, until: Until) -> anyhow::Result<Latencies> {
        let mut client = Client::connect(address).await?;
        let mut latencies = Latencies::new()?;
        let repository = format!("bench/push-{number}");
        let start = Instant::now();
        let goes_on = |done: usize| match until {
            Until::Time(time) => start.elapsed() < time,
            Until::Count(count) => done < count.div_ceil(self.at_once),
        };
        let mut done = 0;
        while goes_on(done) {
            let layer = self.layers.fresh();
            let begin = Instant::now();
            fresh_image(&mut client, &repository, &format!("v{done}"), &layer).await?;
            latencies.record(begin.elapsed());
            done += 1;
        }
        if done == 0 {
            bail!("nothing was pushed");
        }
        Ok(latencies)
    }
}

/// Pushes an image of a fresh layer and a fresh config; yields its manifest and the answer to it.
pub(crate) async fn fresh_image(
    client: &mut Client,
    repository: &str,
    tag: &str,
    layer: &FreshLayer,
) -> anyhow::Result<(Manifest, Answer)> {
    let config = fresh_config();
    let config_digest = digest_of(&config);
    blob(client, repository, &layer.digest, Payload::of(layer.frames(), layer.len)).await?;
    blob(client, repository, &config_digest, Payload::whole(&config)).await?;
    let made = Manifest::of((&config_digest, config.len() as u64), &[(&layer.digest, layer.len)]);
    let answer = manifest(client, repository, tag, &made.body).await?;
    Ok((made, answer))
}

fn fresh_config() -> Bytes {
    let mut bytes = vec![0; 512];
    rand::rng().fill_bytes(&mut bytes);
    bytes.into()
}

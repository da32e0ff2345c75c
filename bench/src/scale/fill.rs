//! Filling a node as clients would: small blobs, mounts of them into more repositories, and manifests with tags.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::args::ScaleArgs;
use crate::content::{Image, KIB, MANIFEST_TYPE, digest_of};
use crate::http::{Client, Payload};
use crate::push;
use crate::servers::{Kind, Server};

/// Tags of one repository.
pub(super) const TAGS_PER_REPOSITORY: u64 = 1_000;
/// Tags of one put: as many as a put takes.
const TAGS_PER_PUT: u64 = 100;
/// The repository whose blobs are mounted into others.
const BLOBS: &str = "bench/blobs";
/// Says that a folder is filled, and how long that took.
const FILLED: &str = "filled.json";

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) tags: u64,
    /// Different blobs, of 64 bytes.
    pub(crate) blobs: u64,
    /// Records of blobs in repositories: those, and mounts of them.
    pub(crate) records: u64,
}

#[derive(Serialize, Deserialize)]
struct Filled {
    size: Size,
    seconds: f64,
}

impl Size {
    pub(crate) fn name(&self) -> String {
        format!("{}-tags-{}-records", self.tags, self.records)
    }
}

/// The image that all tags name.
fn image() -> Image {
    Image::new(41, 4 * KIB)
}

/// The repository of a tag, and the tag's name.
pub(super) fn repository(number: u64) -> String {
    format!("bench/scale-{number:04}")
}

/// The name of a tag in its repository.
pub(super) fn tag(number: u64) -> String {
    format!("t{number:03}")
}

/// Fills a folder, or says how long that took an earlier run.
pub(super) async fn fill(args: &ScaleArgs, size: Size, folder: &Path) -> anyhow::Result<f64> {
    let marker = folder.join(FILLED);
    if let Ok(bytes) = std::fs::read(&marker) {
        let filled: Filled =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", marker.display()))?;
        ensure!(filled.size == size, "{} is filled otherwise ({:?}); remove it", folder.display(), filled.size);
        return Ok(filled.seconds);
    }
    if folder.exists() {
        // One that was broken off.
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    let server = Server::start(Kind::AtollOne, folder, &args.programs, false).await?;
    let start = Instant::now();
    push::image(&mut Client::connect(server.http[0]).await?, BLOBS, "v1", &image()).await?;
    let works = [
        ("blobs", size.blobs, Work::Blob),
        ("mounts", size.records - size.blobs, Work::Mount { blobs: size.blobs.max(1) }),
        ("repositories", size.tags.div_ceil(TAGS_PER_REPOSITORY), Work::Repository { tags: size.tags }),
    ];
    for (name, count, work) in works {
        let begin = Instant::now();
        all(&server, args.clients, name, count, work).await?;
        println!("{name}: {count} in {:.1} s", begin.elapsed().as_secs_f64());
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(server);
    std::fs::write(&marker, serde_json::to_vec(&Filled { size, seconds })?)?;
    Ok(seconds)
}

#[derive(Clone, Copy)]
enum Work {
    Blob,
    Mount { blobs: u64 },
    Repository { tags: u64 },
}

/// Does a work for each number below `count`, by many clients.
async fn all(server: &Server, clients: usize, name: &'static str, count: u64, work: Work) -> anyhow::Result<()> {
    let bar = ProgressBar::new(count).with_message(name);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {per_sec}, {eta} left")?);
    let next = Arc::new(AtomicU64::new(0));
    let address = server.http[0];
    let clients = (0..clients).map(|_| {
        let (next, bar) = (next.clone(), bar.clone());
        tokio::spawn(async move {
            let mut client = Client::connect(address).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                work.apply(&mut client, number).await?;
                bar.inc(1);
            }
        })
    });
    for client in futures::future::try_join_all(clients).await? {
        client?;
    }
    bar.finish_and_clear();
    Ok(())
}

impl Work {
    async fn apply(self, client: &mut Client, number: u64) -> anyhow::Result<()> {
        match self {
            Self::Blob => blob(client, number).await,
            Self::Mount { blobs } => {
                let into = format!("bench/links-{:05}", number / blobs);
                mount(client, &into, &digest_of(&small(number % blobs))).await
            }
            Self::Repository { tags } => fill_repository(client, number, tags).await,
        }
    }
}

/// The bytes of a small blob.
fn small(number: u64) -> Bytes {
    format!("{number:064}").into()
}

async fn blob(client: &mut Client, number: u64) -> anyhow::Result<()> {
    let bytes = small(number);
    let path = format!("/v2/{BLOBS}/blobs/uploads/?digest={}", digest_of(&bytes));
    let binary = [("content-type", "application/octet-stream")];
    client.expect(StatusCode::CREATED, Method::POST, &path, &binary, Payload::whole(&bytes)).await.map(drop)
}

async fn mount(client: &mut Client, into: &str, digest: &str) -> anyhow::Result<()> {
    let path = format!("/v2/{into}/blobs/uploads/?mount={digest}&from={BLOBS}");
    client.expect(StatusCode::CREATED, Method::POST, &path, &[], Payload::empty()).await.map(drop)
}

/// One image under up to a thousand tags.
async fn fill_repository(client: &mut Client, number: u64, tags: u64) -> anyhow::Result<()> {
    let (name, image) = (repository(number), image());
    mount(client, &name, &image.config.digest).await?;
    mount(client, &name, &image.layer.digest).await?;
    let count = TAGS_PER_REPOSITORY.min(tags - number * TAGS_PER_REPOSITORY);
    for first in (0..count).step_by(TAGS_PER_PUT as usize) {
        let names = (first..(first + TAGS_PER_PUT).min(count)).map(|t| format!("tag={}", tag(t)));
        let query = names.collect::<Vec<_>>().join("&");
        let path = format!("/v2/{name}/manifests/{}?{query}", image.manifest.digest);
        let typed = [("content-type", MANIFEST_TYPE)];
        client.expect(StatusCode::CREATED, Method::PUT, &path, &typed, Payload::whole(&image.manifest.body)).await?;
    }
    Ok(())
}

/// Sees that the first and the last of all that was filled in is there.
pub(super) async fn check(server: &Server, size: &Size) -> anyhow::Result<()> {
    let mut client = Client::connect(server.http[0]).await?;
    for number in [0, size.tags - 1] {
        let (name, tag) = (repository(number / TAGS_PER_REPOSITORY), tag(number % TAGS_PER_REPOSITORY));
        let path = format!("/v2/{name}/manifests/{tag}");
        let answer = client.expect(StatusCode::OK, Method::GET, &path, &[], Payload::empty()).await?;
        ensure!(answer.body == image().manifest.body, "{path} has another body");
    }
    let mounted = (size.records > size.blobs).then(|| size.records - size.blobs - 1);
    let links = mounted.map(|last| (format!("bench/links-{:05}", last / size.blobs), last % size.blobs));
    let pushed = (size.blobs > 0).then(|| (BLOBS.to_owned(), size.blobs - 1));
    for (name, number) in links.into_iter().chain(pushed) {
        let path = format!("/v2/{name}/blobs/{}", digest_of(&small(number)));
        let answer = client.expect(StatusCode::OK, Method::GET, &path, &[], Payload::empty()).await?;
        ensure!(answer.body == small(number), "{path} has another body");
    }
    Ok(())
}

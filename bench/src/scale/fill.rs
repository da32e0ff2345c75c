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
use serde_json::json;

use crate::args::ScaleArgs;
use crate::content::{MANIFEST_TYPE, Manifest, digest_of};
use crate::http::{Client, Payload};
use crate::servers::{Kind, Server};

/// Tags of one repository.
pub(super) const TAGS_PER_REPOSITORY: u64 = 1_000;
/// Tags of one put: as many as a put takes.
const TAGS_PER_PUT: u64 = 100;
/// Tags of a page that is listed.
pub(super) const TAGS_PER_PAGE: u64 = 100;
/// The repository whose blobs are mounted into others.
const BLOBS: &str = "bench/blobs";
/// Repositories whose images are put once more before a node is killed: a thousand puts of a hundred tags.
const PUT_AGAIN: u64 = 100;
/// Says that a folder is filled, and how long that took.
const FILLED: &str = "filled.json";
/// Which fill this is. It is another one whenever what is filled in for a size changes: folders of another one are
/// filled anew.
///
/// 2: every repository has a manifest of its own.
const VERSION: u32 = 2;

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
    /// Folders of the first fill do not say it.
    #[serde(default)]
    version: u32,
    size: Size,
    seconds: f64,
}

impl Size {
    pub(crate) fn name(&self) -> String {
        format!("{}-tags-{}-records", self.tags, self.records)
    }

    /// A size of so many tags with as many blobs and records for each of them, and at least one.
    pub(super) fn scaled(&self, tags: u64) -> Self {
        let share = |of: u64| u64::try_from(u128::from(of) * u128::from(tags) / u128::from(self.tags)).unwrap_or(of);
        let blobs = share(self.blobs).max(1);
        Self { tags, blobs, records: share(self.records).max(blobs) }
    }

    /// How many repositories the tags are in.
    pub(super) fn repositories(&self) -> u64 {
        self.tags.div_ceil(TAGS_PER_REPOSITORY)
    }

    /// Tags of a repository; the last one may have fewer.
    pub(super) fn tags_of(&self, repository: u64) -> u64 {
        TAGS_PER_REPOSITORY.min(self.tags - repository * TAGS_PER_REPOSITORY)
    }

    /// Where a record is, and which blob it is of: first those that were pushed, then repository after repository into
    /// which all of them were mounted.
    fn record(&self, number: u64) -> (String, u64) {
        let repository = match number / self.blobs {
            0 => BLOBS.to_owned(),
            copy => format!("bench/links-{:05}", copy - 1),
        };
        (repository, number % self.blobs)
    }
}

/// The repository of tags of a number.
pub(super) fn repository(number: u64) -> String {
    format!("bench/scale-{number:04}")
}

/// The name of a tag in its repository.
pub(super) fn tag(number: u64) -> String {
    format!("t{number:03}")
}

/// The bytes of a small blob.
pub(super) fn small(number: u64) -> Bytes {
    format!("{number:064}").into()
}

/// The layer of all images.
fn layer() -> Bytes {
    format!("layer {:058}", 0).into()
}

/// The config of a repository's image, which no other has: so every repository has a manifest of its own.
fn config(repository: u64) -> Bytes {
    format!("config {repository:057}").into()
}

/// The manifest that all tags of a repository name; it is as long as any other's.
pub(super) fn manifest(repository: u64) -> Manifest {
    let (config, layer) = (config(repository), layer());
    Manifest::of((&digest_of(&config), config.len() as u64), &[(&digest_of(&layer), layer.len() as u64)])
}

/// Fills a folder, or says how long that took an earlier run.
pub(super) async fn fill(args: &ScaleArgs, size: Size, folder: &Path) -> anyhow::Result<f64> {
    if let Some(filled) = filled(folder)? {
        ensure!(filled.size == size, "{} is filled otherwise ({:?}); remove it", folder.display(), filled.size);
        return Ok(filled.seconds);
    }
    if folder.exists() {
        // One that was broken off, or of another fill.
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    let server = Server::start(Kind::AtollOne, folder, &args.programs, false).await?;
    let start = Instant::now();
    blob(&mut Client::connect(server.http[0]).await?, BLOBS, &layer()).await?;
    let works = [
        ("blobs", size.blobs, Work::Blob),
        ("mounts", size.records - size.blobs, Work::Mount(size)),
        ("repositories", size.repositories(), Work::Repository(size)),
    ];
    for (name, count, work) in works {
        let begin = Instant::now();
        all(&server, args.clients, name, count, work).await?;
        println!("{name}: {count} in {:.1} s", begin.elapsed().as_secs_f64());
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(server);
    std::fs::write(folder.join(FILLED), serde_json::to_vec(&Filled { version: VERSION, size, seconds })?)?;
    Ok(seconds)
}

/// What a folder says of its fill; nothing if it is not filled, or otherwise than this bench fills.
fn filled(folder: &Path) -> anyhow::Result<Option<Filled>> {
    let marker = folder.join(FILLED);
    let Ok(bytes) = std::fs::read(&marker) else { return Ok(None) };
    let filled: Filled = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", marker.display()))?;
    if filled.version != VERSION {
        println!("{} was filled by another bench: anew", folder.display());
        return Ok(None);
    }
    Ok(Some(filled))
}

/// Puts the images of some repositories once more. Nothing changes by it but revisions, so that the fill stays what it
/// is; but the node has written what no snapshot and no good end has settled.
pub(super) async fn put_again(args: &ScaleArgs, server: &Server, size: Size) -> anyhow::Result<()> {
    let count = size.repositories().min(PUT_AGAIN);
    all(server, args.clients, "repositories again", count, Work::Repository(size)).await
}

/// Asks for all that is pulled once, and sees that it is right.
pub(super) async fn ask_for_all(args: &ScaleArgs, server: &Server, size: Size) -> anyhow::Result<()> {
    all(server, args.clients, "tags asked for", size.tags, Work::AskTag).await?;
    all(server, args.clients, "records asked for", size.records, Work::AskRecord(size)).await?;
    all(server, args.clients, "repositories asked for", size.repositories(), Work::AskRepository(size)).await
}

#[derive(Clone, Copy)]
enum Work {
    Blob,
    Mount(Size),
    Repository(Size),
    AskTag,
    AskRecord(Size),
    AskRepository(Size),
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
            Self::Blob => blob(client, BLOBS, &small(number)).await,
            Self::Mount(size) => {
                let (into, blob) = size.record(size.blobs + number);
                mount(client, &into, &small(blob)).await
            }
            Self::Repository(size) => fill_repository(client, number, size.tags_of(number)).await,
            Self::AskTag => ask_tag(client, number).await,
            Self::AskRecord(size) => ask_record(client, &size, number).await,
            Self::AskRepository(size) => ask_repository(client, &size, number).await,
        }
    }
}

async fn ask_tag(client: &mut Client, number: u64) -> anyhow::Result<()> {
    ask_manifest(client, number / TAGS_PER_REPOSITORY, &tag(number % TAGS_PER_REPOSITORY)).await
}

/// A repository's manifest, by a tag or by its digest.
async fn ask_manifest(client: &mut Client, in_repository: u64, reference: &str) -> anyhow::Result<()> {
    let path = format!("/v2/{}/manifests/{reference}", repository(in_repository));
    ensure!(found(client, &path).await? == manifest(in_repository).body, "{path} has another body");
    Ok(())
}

/// The first page of a repository's tags.
async fn ask_page(client: &mut Client, size: &Size, number: u64) -> anyhow::Result<()> {
    let path = format!("/v2/{}/tags/list?n={TAGS_PER_PAGE}", repository(number));
    let listed: serde_json::Value = serde_json::from_slice(&found(client, &path).await?)?;
    let right: serde_json::Value = serde_json::from_slice(&page(size, number))?;
    ensure!(listed["tags"] == right["tags"], "{path} has other tags: {listed}");
    Ok(())
}

async fn ask_record(client: &mut Client, size: &Size, number: u64) -> anyhow::Result<()> {
    let (name, number) = size.record(number);
    let path = format!("/v2/{name}/blobs/{}", digest_of(&small(number)));
    ensure!(found(client, &path).await? == small(number), "{path} has another body");
    Ok(())
}

/// Its manifest, its first page of tags, and a tag that it has not.
async fn ask_repository(client: &mut Client, size: &Size, number: u64) -> anyhow::Result<()> {
    ask_manifest(client, number, &manifest(number).digest).await?;
    ask_page(client, size, number).await?;
    let path = format!("/v2/{}/manifests/unknown", repository(number));
    client.expect(StatusCode::NOT_FOUND, Method::GET, &path, &[], Payload::empty()).await.map(drop)
}

async fn blob(client: &mut Client, repository: &str, bytes: &Bytes) -> anyhow::Result<()> {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", digest_of(bytes));
    let binary = [("content-type", "application/octet-stream")];
    client.expect(StatusCode::CREATED, Method::POST, &path, &binary, Payload::whole(bytes)).await.map(drop)
}

async fn mount(client: &mut Client, into: &str, bytes: &Bytes) -> anyhow::Result<()> {
    let path = format!("/v2/{into}/blobs/uploads/?mount={}&from={BLOBS}", digest_of(bytes));
    client.expect(StatusCode::CREATED, Method::POST, &path, &[], Payload::empty()).await.map(drop)
}

/// The repository's image under its tags.
async fn fill_repository(client: &mut Client, number: u64, tags: u64) -> anyhow::Result<()> {
    let (name, image) = (repository(number), manifest(number));
    blob(client, &name, &config(number)).await?;
    mount(client, &name, &layer()).await?;
    for first in (0..tags).step_by(TAGS_PER_PUT as usize) {
        let names = (first..(first + TAGS_PER_PUT).min(tags)).map(|t| format!("tag={}", tag(t)));
        let query = names.collect::<Vec<_>>().join("&");
        let path = format!("/v2/{name}/manifests/{}?{query}", image.digest);
        let typed = [("content-type", MANIFEST_TYPE)];
        client.expect(StatusCode::CREATED, Method::PUT, &path, &typed, Payload::whole(&image.body)).await?;
    }
    Ok(())
}

/// The first page of a repository's tags, as no JSON of it is shorter.
pub(super) fn page(size: &Size, number: u64) -> Bytes {
    let tags: Vec<String> = (0..size.tags_of(number).min(TAGS_PER_PAGE)).map(tag).collect();
    json!({ "name": repository(number), "tags": tags }).to_string().into()
}

/// Sees that the first and the last of all that was filled in is there, by each way that it is pulled.
pub(super) async fn check(server: &Server, size: &Size) -> anyhow::Result<()> {
    let mut client = Client::connect(server.http[0]).await?;
    for number in [0, size.tags - 1] {
        let in_repository = number / TAGS_PER_REPOSITORY;
        ask_tag(&mut client, number).await?;
        ask_manifest(&mut client, in_repository, &manifest(in_repository).digest).await?;
        ask_page(&mut client, size, in_repository).await?;
    }
    for number in [0, size.records - 1] {
        ask_record(&mut client, size, number).await?;
    }
    Ok(())
}

async fn found(client: &mut Client, path: &str) -> anyhow::Result<Bytes> {
    Ok(client.expect(StatusCode::OK, Method::GET, path, &[], Payload::empty()).await?.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { tags: 1_000_000, blobs: 20_000, records: 2_000_000 };

    #[test]
    fn a_smaller_size_has_its_share_of_blobs_and_records_and_none_without() {
        assert_eq!(SIZE.scaled(1_000), Size { tags: 1_000, blobs: 20, records: 2_000 });
        assert_eq!(SIZE.scaled(1), Size { tags: 1, blobs: 1, records: 2 });
        assert_eq!(Size { tags: 10, blobs: 1, records: 1 }.scaled(1), Size { tags: 1, blobs: 1, records: 1 });
    }

    #[test]
    fn records_are_those_that_were_pushed_and_then_the_mounts_of_all() {
        assert_eq!(SIZE.record(0), ("bench/blobs".into(), 0));
        assert_eq!(SIZE.record(19_999), ("bench/blobs".into(), 19_999));
        assert_eq!(SIZE.record(20_000), ("bench/links-00000".into(), 0));
        assert_eq!(SIZE.record(1_999_999), ("bench/links-00098".into(), 19_999));
    }

    #[test]
    fn the_last_repository_has_the_tags_that_are_left() {
        let size = Size { tags: 2_500, ..SIZE };
        assert_eq!((size.repositories(), size.tags_of(0), size.tags_of(2)), (3, 1_000, 500));
        assert!(page(&size, 2).starts_with(br#"{"name":"bench/scale-0002","tags":["t000","t001","#));
    }

    #[test]
    fn repositories_have_different_manifests_of_one_length() {
        let (one, two) = (manifest(0), manifest(999));
        assert_ne!(one.digest, two.digest);
        assert_eq!(one.body.len(), two.body.len());
        assert_eq!((small(0).len(), layer().len(), config(7).len()), (64, 64, 64));
    }

    #[test]
    fn another_fill_is_not_taken_for_this_one() {
        let temp = tempfile::tempdir().unwrap();
        assert!(filled(temp.path()).unwrap().is_none());
        let write = |text: &str| std::fs::write(temp.path().join(FILLED), text).unwrap();
        write(r#"{"size":{"tags":1000,"blobs":0,"records":0},"seconds":1.5}"#);
        assert!(filled(temp.path()).unwrap().is_none(), "the first fill");
        write(r#"{"version":2,"size":{"tags":1000,"blobs":20,"records":2000},"seconds":1.5}"#);
        assert_eq!(filled(temp.path()).unwrap().unwrap().size, SIZE.scaled(1_000));
        write("{");
        assert!(filled(temp.path()).is_err());
    }
}

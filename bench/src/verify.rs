//! Whether a server answers a row rightly: asked before it is measured, once for each server. A fast wrong answer is
//! no figure.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::content::{Blob, Content, MANIFEST_TYPE, MIXED};
use crate::http::{Client, Payload};
use crate::rows::{RANGE_LEN, RANGE_OFFSET, Target, Work, blob_path, manifest_path};

/// Fails with what is wrong. What pushes store is checked where it is pushed.
pub(crate) async fn check(work: Work, address: SocketAddr, content: &Content) -> anyhow::Result<()> {
    let mut client = Client::connect(address).await?;
    match work {
        Work::Get { target, .. } => get(&mut client, target, content).await,
        Work::Head { .. } => head(&mut client, content).await,
        // Each listing is checked as it is measured.
        Work::List { .. } | Work::Push { .. } | Work::Replicate(_) | Work::Memory { .. } => Ok(()),
    }
}

async fn get(client: &mut Client, target: Target, content: &Content) -> anyhow::Result<()> {
    let (path, _) = target.request(content);
    match target {
        Target::ManifestByTag | Target::ManifestByDigest => {
            manifest(client, &path, &content.small.manifest.digest).await
        }
        Target::UnknownTag => {
            let answer = client.get(&path).await?;
            ensure!(answer.status == StatusCode::NOT_FOUND, "{path}: {} instead of 404", answer.status);
            Ok(())
        }
        Target::Small => blob(client, &content.small.layer).await,
        Target::Medium => blob(client, &content.medium).await,
        Target::Large => blob(client, stored(content.large.as_ref())?).await,
        Target::RangeOfHuge => range(client, stored(content.huge.as_ref())?).await,
        Target::Mixed => {
            for (image, (mb, _)) in content.mixed.iter().zip(MIXED) {
                manifest(client, &manifest_path(&mb.to_string()), &image.manifest.digest).await?;
                blob(client, &image.layer).await?;
            }
            Ok(())
        }
    }
}

fn stored(blob: Option<&Blob>) -> anyhow::Result<&Blob> {
    blob.context("the content of this row was not made")
}

async fn manifest(client: &mut Client, path: &str, digest: &str) -> anyhow::Result<()> {
    let accept = [("accept", MANIFEST_TYPE)];
    let answer = client.expect(StatusCode::OK, Method::GET, path, &accept, Payload::empty()).await?;
    let got = crate::content::digest_of(&answer.body);
    ensure!(got == digest, "{path}: the body is {got}, not {digest}");
    Ok(())
}

async fn head(client: &mut Client, content: &Content) -> anyhow::Result<()> {
    let (path, len) = (manifest_path("v1"), content.small.manifest.body.len().to_string());
    let accept = [("accept", MANIFEST_TYPE)];
    let answer = client.expect(StatusCode::OK, Method::HEAD, &path, &accept, Payload::empty()).await?;
    ensure!(answer.body.is_empty(), "{path}: HEAD has a body");
    ensure!(
        answer.header("content-length") == Some(&len),
        "{path}: {:?} instead of {len}",
        answer.header("content-length")
    );
    Ok(())
}

/// The digest of a body, read as it comes: 1 GiB need not be held.
pub(crate) async fn blob_digest(client: &mut Client, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let mut response = client.open(Method::GET, path, &[], Payload::empty()).await?;
    let mut hasher = Sha256::new();
    while let Some(frame) = response.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            hasher.update(bytes);
        }
    }
    Ok((response.status(), format!("sha256:{}", const_hex::encode(hasher.finalize().as_slice()))))
}

async fn blob(client: &mut Client, blob: &Blob) -> anyhow::Result<()> {
    let path = blob_path(&blob.digest);
    let (status, digest) = blob_digest(client, &path).await?;
    if (status, &digest) != (StatusCode::OK, &blob.digest) {
        bail!("{path}: {status} with a body of {digest}");
    }
    Ok(())
}

async fn range(client: &mut Client, blob: &Blob) -> anyhow::Result<()> {
    let path = blob_path(&blob.digest);
    let wish = format!("bytes={RANGE_OFFSET}-{}", RANGE_OFFSET + RANGE_LEN - 1);
    let headers = [("range", wish.as_str())];
    let answer = client.expect(StatusCode::PARTIAL_CONTENT, Method::GET, &path, &headers, Payload::empty()).await?;
    ensure!(answer.body == blob.slice(RANGE_OFFSET, RANGE_LEN as usize), "{path}: {wish} has other bytes");
    Ok(())
}

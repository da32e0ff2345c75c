//! The S3 servers of `dev --store s3`: one for each region, a process of its own, over files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use atoll_types::{NodeName, RegionId};
use rand::RngExt as _;

use super::folder::{DevFolder, replace};
use super::process::Program;
use crate::config::{S3Section, StoreSection, Topology, TopologyStore};

/// The server, which speaks S3 over a folder.
const SERVER: &str = "versitygw";
/// How to get it.
const INSTALL: &str = "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0";
/// The bucket of each server.
const BUCKET: &str = "atoll";
/// The key's id at each server.
const ACCESS_KEY_ID: &str = "atoll-dev";

/// The server of a region, as a keeper knows it.
pub(super) fn name(region: &RegionId) -> anyhow::Result<NodeName> {
    Ok(format!("{region}-store").parse()?)
}

/// Sees to it that all that the servers need is there, before anything is started.
pub(super) fn prepare(folder: &DevFolder, topology: &Topology) -> anyhow::Result<()> {
    let without = topology.nodes.iter().find(|node| topology.store_of(&node.region).is_none());
    if let Some(node) = without {
        bail!(
            "the topology has no [[store]] for {}, which --store s3 needs: give it a region and an s3 address",
            node.region
        );
    }
    find_server()?;
    for store in &topology.stores {
        let bucket = data(folder, store)?.join(BUCKET);
        std::fs::create_dir_all(&bucket).with_context(|| format!("cannot make {}", bucket.display()))?;
    }
    let secret = secret_file(folder);
    if !secret.exists() {
        replace(&secret, const_hex::encode(rand::rng().random::<[u8; 20]>()).as_bytes())?;
    }
    Ok(())
}

/// What a node of a region writes in its configuration.
pub(super) fn section(folder: &DevFolder, store: &TopologyStore) -> StoreSection {
    let endpoint = format!("http://{}", store.s3);
    let section = S3Section::of_server(endpoint, BUCKET.into(), ACCESS_KEY_ID.into(), secret_file(folder));
    StoreSection::S3(Box::new(section))
}

/// How the server of a region is run.
pub(super) fn program(folder: &DevFolder, store: &TopologyStore) -> anyhow::Result<Program> {
    let secret = std::fs::read_to_string(secret_file(folder)).context("cannot read the secret of the stores")?;
    Ok(Program {
        arguments: arguments(find_server()?, store.s3, &data(folder, store)?),
        environment: vec![
            ("ROOT_ACCESS_KEY_ID".into(), ACCESS_KEY_ID.into()),
            ("ROOT_SECRET_ACCESS_KEY".into(), secret.trim().into()),
        ],
    })
}

fn arguments(server: PathBuf, address: SocketAddr, data: &Path) -> Vec<std::ffi::OsString> {
    let address = address.to_string();
    // By way of this program: the server itself cannot be told to end with the one that started it.
    ["exec-with-parent".into(), server.into_os_string()]
        .into_iter()
        .chain(["--port", &address, "--keep-alive", "--quiet", "posix"].map(Into::into))
        .chain([data.as_os_str().to_owned()])
        .collect()
}

fn data(folder: &DevFolder, store: &TopologyStore) -> anyhow::Result<PathBuf> {
    Ok(folder.node(&name(&store.region)?).join("data"))
}

fn secret_file(folder: &DevFolder) -> PathBuf {
    folder.path().join("store-secret")
}

fn find_server() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(SERVER)).find(|file| file.is_file());
    found.with_context(|| {
        format!("{SERVER} is not on PATH, which --store s3 runs for each region: install it ({INSTALL}), or use `cargo xtask dev`, which does so itself")
    })
}

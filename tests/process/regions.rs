//! Push in one region, pull in all: visibility, referrers, mounts, deletes, sessions, lag and read-through.

use std::path::{Path, PathBuf};

use atoll_types::Digest;
use rustix::process::Signal;

use crate::harness::{Cluster, REGIONS, wait_for};
use crate::oci::{Client, Image, expect, with_query};

fn clients(cluster: &Cluster) -> Vec<Client> {
    cluster.nodes.iter().map(|n| Client::new(&n.http.to_string())).collect()
}

/// What a node says that a region lacks: blobs and bytes.
fn lag(cluster: &Cluster, node: usize, region: &str) -> (u64, u64) {
    let status = cluster.ask(node, &["replication", "status"]);
    let found = status["regions"].as_array().into_iter().flatten().find(|r| r["region"] == region).cloned();
    let found = found.unwrap_or_else(|| panic!("{region} is in {status}"));
    (found["blobs"].as_u64().expect("blobs"), found["bytes"].as_u64().expect("bytes"))
}

fn wait_for_no_lag(cluster: &Cluster, region: &str) {
    wait_for(format!("{region} lacks nothing"), || (lag(cluster, 0, region) == (0, 0)).then_some(()));
}

#[test]
fn what_is_pushed_in_one_region_is_pulled_in_every_other() {
    let cluster = Cluster::start();
    let clients = clients(&cluster);
    for (from, client) in clients.iter().enumerate() {
        let (repository, image) = (format!("pairs/r{from}"), Image::new(100 + from as u64, 2, 200_000));
        let revision = client.push(&repository, "v1", &image).expect("a push").to_string();
        for other in &clients {
            let path = format!("/v2/{repository}/manifests/v1");
            let seen = other.call("HEAD", &path, &[("atoll-min-revision", &revision)], b"").expect("an answer");
            assert_eq!(seen.status, 200, "the tag is there from its revision on");
            other.check(&repository, "v1", &image).expect("all of it, byte for byte");
        }
    }
}

#[test]
fn referrers_mounts_and_deletes_are_one_in_all_regions() {
    let cluster = Cluster::start();
    let [a, b, c] = &clients(&cluster)[..] else { panic!("three regions") };
    let base = Image::new(1, 1, 10_000);
    let signature = Image::with_subject(2, 1, 1_000, Some(&base));
    a.push("refer/base", "v1", &base).expect("a push");
    let revision = b.push("refer/base", "sig", &signature).expect("a push").to_string();
    let path = format!("/v2/refer/base/referrers/{}", base.digest);
    let listed = c.call("GET", &path, &[("atoll-min-revision", &revision)], b"").expect("an answer");
    let listed: serde_json::Value = serde_json::from_slice(&listed.body).expect("JSON");
    assert_eq!(listed["manifests"][0]["digest"], signature.digest.to_string(), "{listed}");
    let mount = format!("/v2/refer/mounted/blobs/uploads/?mount={}&from=refer/base", Digest::sha256(&base.blobs[0]));
    expect(c.call("POST", &mount, &[], b"").expect("an answer"), 201).expect("a mount of what came from elsewhere");
    let deleted = b.call("DELETE", "/v2/refer/base/manifests/sig", &[], b"").expect("an answer");
    let revision = expect(deleted, 202).expect("a delete").revision().to_string();
    let gone = a.call("GET", "/v2/refer/base/manifests/sig", &[("atoll-min-revision", &revision)], b"");
    assert_eq!(gone.expect("an answer").status, 404, "it is gone from that revision on");
}

/// A session belongs to the node that opened it; every chunk may come through another node.
#[test]
fn an_upload_goes_on_through_any_node_of_any_region() {
    let cluster = Cluster::start();
    let clients = clients(&cluster);
    let data = Image::new(3, 1, 300_000).blobs.remove(0);
    let mut at = clients[0].open_upload("session/r").expect("a session");
    for (i, chunk) in data.chunks(100_000).enumerate() {
        let range = format!("{}-{}", i * 100_000, i * 100_000 + chunk.len() - 1);
        let answer = clients[i % 3].call("PATCH", &at, &[("content-range", &range)], chunk).expect("an answer");
        at = expect(answer, 202).expect("a chunk is taken").header("location").to_owned();
        assert!(at.starts_with('/'), "Location is relative: {at}");
    }
    let status = expect(clients[1].get(&at).expect("an answer"), 204).expect("a status");
    assert_eq!(status.header("range"), "0-299999");
    let finish = with_query(&at, &format!("digest={}", Digest::sha256(&data)));
    expect(clients[2].call("PUT", &finish, &[], b"").expect("an answer"), 201).expect("the upload is finished");
    let blob = format!("/v2/session/r/blobs/{}", Digest::sha256(&data));
    assert!(clients[2].get(&blob).expect("an answer").body == data);
}

#[test]
fn lag_is_exact_for_a_paused_and_for_a_dead_region_and_goes_back_to_nothing() {
    let mut cluster = Cluster::start();
    let clients = clients(&cluster);
    cluster.ask(0, &["replication", "pause", "ap-south"]);
    let (mut blobs, mut bytes) = (0, 0);
    for i in 0..6 {
        if i == 3 {
            cluster.node("stop", "ap-south-1");
        }
        let image = Image::new(200 + i, 2, 20_000);
        let push = || clients[i as usize % 2].push("lag/r", &format!("t{i}"), &image).ok();
        let revision = wait_for("a push while a node goes", push);
        blobs += image.blobs.len() as u64;
        bytes += image.blobs.iter().map(|b| b.len() as u64).sum::<u64>();
        for node in 0..2 {
            wait_for(format!("node {node} is at {revision}"), || {
                let status = cluster.ask(node, &["replication", "status"]);
                (status["revision"].as_u64() >= Some(revision)).then_some(())
            });
            assert_eq!(lag(&cluster, node, "ap-south"), (blobs, bytes), "after push {i}, at node {node}");
        }
    }
    cluster.node("start", "ap-south-1");
    cluster.wait_ready();
    assert_eq!(lag(&cluster, 2, "ap-south"), (blobs, bytes), "a pause outlives a restart");
    cluster.ask(0, &["replication", "resume", "ap-south"]);
    wait_for_no_lag(&cluster, "ap-south");
}

/// The only copy of a layer rots on the disk: a pull fails, and the same push once more heals it, in any region.
#[test]
fn a_rotten_last_copy_is_healed_by_pushing_again() {
    let cluster = Cluster::start();
    let clients = clients(&cluster);
    for region in ["eu-west", "ap-south"] {
        cluster.ask(0, &["replication", "pause", region]);
    }
    for (healer, seed) in [(0, 21), (1, 22)] {
        let (repository, image) = (format!("rot/r{healer}"), Image::new(seed, 1, 700_000));
        clients[0].push(&repository, "v1", &image).expect("a push");
        rot(&cluster, "us-east-1", &image.blobs[0]);
        let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(&image.blobs[0]));
        let got = clients[0].get(&path);
        assert!(got.as_ref().map_or(true, |answer| answer.status >= 500), "no wrong byte is served whole: {got:?}");
        let there = |client: &Client| client.call("HEAD", &path, &[], b"").expect("an answer").status;
        wait_for("every region asks for the layer", || clients.iter().all(|c| there(c) == 404).then_some(()));

        let client = &clients[healer];
        let missing: Vec<_> = image.blobs.iter().filter(|blob| !client.has_blob(&repository, blob)).collect();
        assert_eq!(missing, [&image.blobs[0]], "a client uploads the layer alone");
        client.push_blob(&repository, missing[0]).expect("the upload");
        let revision = client.push_manifest(&repository, "v1", &image.manifest).expect("the manifest").revision();
        for reader in &clients {
            wait_for("the push is applied", || {
                let seen = reader.call("HEAD", &path, &[("atoll-min-revision", &revision.to_string())], b"");
                (seen.expect("an answer").status == 200).then_some(())
            });
            reader.check(&repository, "v1", &image).expect("all of it, byte for byte");
        }
    }
    for region in ["eu-west", "ap-south"] {
        cluster.ask(0, &["replication", "resume", region]);
    }
    for region in REGIONS {
        wait_for_no_lag(&cluster, region);
    }
}

/// Flips a bit in the middle of each object of a node's store that holds this content.
fn rot(cluster: &Cluster, node: &str, content: &[u8]) {
    let mut rotten = 0;
    for file in files(&cluster.data().join(node)) {
        let Ok(mut bytes) = std::fs::read(&file) else { continue };
        if bytes.starts_with(content) {
            bytes[content.len() / 2] ^= 1;
            std::fs::write(&file, bytes).expect("the object is written over");
            rotten += 1;
        }
    }
    assert_eq!(rotten, 1, "the object is found");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A source dies in the midst of a pull that streams from it: another region that has the blob takes over, and the
/// client sees nothing of it.
#[test]
fn a_pull_that_streams_from_another_region_outlives_its_source() {
    const BYTES: usize = 96 << 20;
    let cluster = Cluster::start();
    let clients = clients(&cluster);
    cluster.ask(0, &["replication", "pause", "ap-south"]);
    let image = Image::new(5, 1, BYTES);
    clients[0].push("source/r", "v1", &image).expect("a push");
    wait_for_no_lag(&cluster, "eu-west");
    let fetched = |from: &str| fetched_bytes(&cluster, from);
    let path = format!("/v2/source/r/blobs/{}", Digest::sha256(&image.blobs[0]));
    let reader = clients[2].clone();
    let pull = std::thread::spawn(move || reader.get(&path));
    let source =
        wait_for("bytes come from a region", || ["us-east", "eu-west"].into_iter().find(|region| fetched(region) > 0));
    cluster.signal(&format!("{source}-1"), Signal::KILL);
    let got = pull.join().expect("the client ends").expect("an answer");
    assert_eq!(got.status, 200);
    assert!(got.body == image.blobs[0], "{} of {BYTES} bytes, or others", got.body.len());
}

/// Bytes that ap-south has fetched from a region, by its metrics.
fn fetched_bytes(cluster: &Cluster, from: &str) -> u64 {
    let metrics = Client::new(&cluster.nodes[2].admin.to_string()).get("/metrics").expect("metrics").body;
    let name = format!("atoll_replication_fetched_bytes_total{{region=\"{from}\"}} ");
    let text = String::from_utf8(metrics).expect("text");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |n| n.parse().expect("a number"))
}

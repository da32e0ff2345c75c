//! The modes table: what a region that is cut off serves, and that it acknowledges nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use atoll_types::Digest;
use rustix::process::Signal;

use crate::harness::{Cluster, Node, free_address, wait_for};
use crate::oci::{Answer, Client, Image, expect};

fn client(node: &Node) -> Client {
    Client::new(&node.http.to_string())
}

fn wait_for_lag(cluster: &Cluster, region: &str, blobs: u64) {
    wait_for(format!("{region} wants {blobs} blobs"), || {
        let status = cluster.ask(0, &["replication", "status"]);
        let regions = status["regions"].as_array()?.clone();
        regions.iter().any(|r| r["region"] == region && r["blobs"] == blobs).then_some(())
    });
}

fn wait_until_read_only(node: &Node) {
    let client = client(node);
    wait_for(format!("{} is read-only", node.name), || {
        client.get("/readyz?for=push").is_ok_and(|a| a.status == 503).then_some(())
    });
}

fn assert_refused(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"), "{what}: {}", answer.text());
    assert!(!answer.header("retry-after").is_empty(), "{what} has Retry-After");
}

fn assert_honest(answer: &Answer, region: &str, what: &str) {
    let (warning, staleness) = (answer.header("warning"), answer.header("atoll-staleness-ms"));
    assert!(warning.contains("299") && warning.contains(region), "{what}: Warning is {warning:?}");
    assert!(staleness == "unknown" || staleness.parse::<u64>().is_ok(), "{what}: staleness is {staleness:?}");
}

/// `how`: SIGKILL or SIGSTOP for the two others.
fn cut_off(how: Signal) {
    let mut cluster = Cluster::start();
    let nodes = cluster.nodes.clone();
    let (survivor, others) = (&nodes[2], &nodes[..2]);
    let (here, elsewhere) = (Image::new(1, 2, 50_000), Image::new(2, 2, 50_000));
    client(&others[0]).push("cut/r", "here", &here).expect("a push");
    wait_for_lag(&cluster, survivor.region, 0);
    cluster.ask(0, &["replication", "pause", survivor.region]);
    let revision = client(&others[0]).push("cut/r", "elsewhere", &elsewhere).expect("a push");
    see(survivor, "cut/r", "elsewhere", revision);
    for node in others {
        cluster.signal(&node.name, how);
    }
    wait_until_read_only(survivor);
    let alone = client(survivor);
    alone.check("cut/r", "here", &here).expect("a complete image is served");
    let manifest = alone.get("/v2/cut/r/manifests/here").expect("an answer");
    assert_honest(&manifest, survivor.region, "a manifest");
    let unknown = alone.get("/v2/cut/r/manifests/never").expect("an answer");
    assert_eq!(unknown.status, 404);
    assert_honest(&unknown, survivor.region, "an unknown tag");
    let blob = format!("/v2/cut/r/blobs/{}", Digest::sha256(&elsewhere.blobs[0]));
    let answer = alone.get(&blob).expect("an answer");
    assert_refused(&answer, "a blob that is elsewhere");
    assert!(others.iter().any(|n| answer.text().contains(n.region)), "it names who has it: {}", answer.text());
    let start = Instant::now();
    for (method, path) in [
        ("POST", "/v2/cut/r/blobs/uploads/".to_owned()),
        ("DELETE", "/v2/cut/r/manifests/here".to_owned()),
        ("DELETE", format!("/v2/cut/r/blobs/{}", Digest::sha256(&here.blobs[0]))),
        ("POST", format!("/v2/cut/o/blobs/uploads/?mount={}&from=cut/r", Digest::sha256(&here.blobs[0]))),
    ] {
        assert_refused(&alone.call(method, &path, &[], b"").expect("an answer"), &format!("{method} {path}"));
    }
    assert!(start.elapsed() < Duration::from_secs(4), "writes are refused at once, not after a time-out");
    for node in others {
        match how {
            Signal::KILL => cluster.node("start", &node.name),
            _ => cluster.signal(&node.name, Signal::CONT),
        }
    }
    cluster.wait_ready();
    cluster.ask(2, &["replication", "resume", survivor.region]);
    wait_for_lag(&cluster, survivor.region, 0);
    alone.check("cut/r", "elsewhere", &elsewhere).expect("what was elsewhere is here");
    let healed = alone.get("/v2/cut/r/manifests/here").expect("an answer");
    assert_eq!(healed.header("warning"), "", "no Warning once it is healed");
}

#[test]
fn a_region_whose_peers_are_dead_serves_what_it_has_and_acknowledges_nothing() {
    cut_off(Signal::KILL);
}

#[test]
fn a_region_whose_peers_are_stopped_serves_what_it_has_and_acknowledges_nothing() {
    cut_off(Signal::STOP);
}

/// Four nodes need three for a quorum: with two dead, the third still serves its blobs, and the fourth streams them.
const FOURTH: &str = "sa-east-1";

#[test]
fn a_read_only_region_reads_through_from_a_region_that_is_read_only_too() {
    let fourth = [free_address(), free_address(), free_address()];
    let [http, grpc, admin] = fourth;
    let mut cluster = Cluster::prepare(&format!(
        "[[node]]\nname = \"{FOURTH}\"\nregion = \"sa-east\"\nhttp = \"{http}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n"
    ));
    cluster.up();
    let nodes = cluster.nodes.clone();
    let (source, dead, reader) = (&nodes[0], &nodes[1], &nodes[2]);
    cluster.ask(0, &["replication", "pause"]);
    let image = Image::new(7, 1, 3_000_000);
    let revision = client(source).push("through/r", "v1", &image).expect("a push");
    see(reader, "through/r", "v1", revision);
    for name in [FOURTH, &dead.name] {
        cluster.signal(name, Signal::KILL);
    }
    wait_until_read_only(reader);
    for blob in &image.blobs {
        let path = format!("/v2/through/r/blobs/{}", Digest::sha256(blob));
        let got = expect(client(reader).get(&path).expect("an answer"), 200).expect("the blob is streamed");
        assert!(got.body == *blob, "{} bytes", got.body.len());
        assert_honest(&got, reader.region, "a blob that is read through");
    }
    let kept = cluster.ask(2, &["replication", "status"]);
    let lag = kept["regions"].as_array().into_iter().flatten().find(|r| r["region"] == reader.region);
    assert_eq!(lag.map(|r| r["blobs"].clone()), Some(image.blobs.len().into()), "nothing was kept: {kept}");
}

/// Waits until a node has applied a revision.
fn see(node: &Node, repository: &str, tag: &str, revision: u64) {
    let revision = revision.to_string();
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = client(node).call("HEAD", &path, &[("atoll-min-revision", revision.as_str())], b"");
    assert_eq!(answer.expect("an answer").status, 200, "{path} at {}", node.name);
}

/// A write that is under way when the quorum goes: never 2xx, and what is said of it is true.
#[test]
fn a_write_in_flight_when_the_quorum_goes_is_not_acknowledged() {
    let mut cluster = Cluster::start();
    let nodes = cluster.nodes.clone();
    let (survivor, others) = (&nodes[2], &nodes[..2]);
    let image = Image::new(9, 1, 10_000);
    for blob in &image.blobs {
        client(survivor).push_blob("flight/r", blob).expect("a blob");
    }
    let mut stream = TcpStream::connect(survivor.http).expect("a connection");
    let head = format!(
        "PUT /v2/flight/r/manifests/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        crate::oci::MANIFEST,
        image.manifest.len()
    );
    stream.write_all(head.as_bytes()).expect("the head is sent");
    let (first, rest) = image.manifest.split_at(image.manifest.len() / 2);
    stream.write_all(first).expect("half of the body is sent");
    for node in others {
        cluster.signal(&node.name, Signal::STOP);
    }
    stream.write_all(rest).expect("the rest is sent");
    let mut answer = String::new();
    stream.set_read_timeout(Some(crate::harness::DEADLINE)).expect("a time-out");
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let unknown = answer.to_lowercase().contains("atoll-outcome: unknown");
    assert!(status == "503" || (status == "504" && unknown), "{answer}");
    for node in others {
        cluster.signal(&node.name, Signal::CONT);
    }
    cluster.wait_ready();
    let barrier = [("atoll-consistency", "linearizable")];
    let after = client(survivor).call("GET", "/v2/flight/r/manifests/v1", &barrier, b"").expect("an answer");
    match status.as_str() {
        "503" => assert_eq!(after.status, 404, "503 says that nothing was written"),
        _ => assert!([200, 404].contains(&after.status), "unknown may go either way: {}", after.status),
    }
    client(survivor).push_manifest("flight/r", "v1", &image.manifest).expect("a push after the heal");
}

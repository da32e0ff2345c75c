//! What a node refuses to start with: folders, stores and addresses that are not its own.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::harness::{Cluster, atoll, free_address, text, wait_for};
use crate::oci::{Client, Image};

/// The configuration that `dev` made for a node, changed and stored beside it.
fn changed(cluster: &Cluster, node: &str, changes: &[(&str, &str)]) -> PathBuf {
    let file = cluster.data().join(node).join("node.toml");
    let mut config = std::fs::read_to_string(&file).expect("node.toml");
    for (from, to) in changes {
        assert!(config.contains(from), "{from:?} is in\n{config}");
        config = config.replace(from, to);
    }
    let copy = file.with_file_name("changed.toml");
    std::fs::write(&copy, config).expect("the copy is written");
    copy
}

fn serve(config: &Path) -> Output {
    atoll().args(["serve", "--config"]).arg(config).output().expect("`atoll serve` runs")
}

fn assert_refused(output: &Output, words: &[&str]) {
    let said = text(output);
    assert!(!output.status.success(), "it must not start: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

/// Addresses that nothing listens on, in place of the node's own.
fn other_addresses(cluster: &Cluster) -> Vec<(String, String)> {
    let node = &cluster.nodes[0];
    [node.http, node.grpc, node.admin].map(|a| (format!("\"{a}\""), format!("\"{}\"", free_address()))).to_vec()
}

#[test]
fn a_second_process_on_the_same_data_folder_is_refused() {
    let cluster = Cluster::start();
    let addresses = other_addresses(&cluster);
    let changes: Vec<(&str, &str)> = addresses.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let config = changed(&cluster, "us-east-1", &changes);
    assert_refused(&serve(&config), &["data folder"]);
    assert_eq!(Client::new(&cluster.nodes[0].http.to_string()).get("/livez").expect("the first goes on").status, 200);
}

#[test]
fn an_occupied_port_is_refused_by_name() {
    let cluster = Cluster::start();
    let config = changed(&cluster, "us-east-1", &[]);
    assert_refused(&serve(&config), &["cannot listen", &cluster.nodes[0].http.port().to_string()]);
}

#[test]
fn the_data_folder_of_another_node_or_cluster_is_refused() {
    let cluster = Cluster::start();
    cluster.node("stop", "us-east-1");
    let cluster_id = cluster.ask(1, &["cluster", "status"])["cluster_id"].as_str().expect("an id").to_owned();
    let other_cluster = "0123456789abcdef0123456789abcdef";
    let config = changed(&cluster, "us-east-1", &[(&cluster_id, other_cluster)]);
    assert_refused(&serve(&config), &["cluster"]);
    let config = changed(&cluster, "us-east-1", &[("name = \"us-east-1\"", "name = \"us-east-9\"")]);
    assert_refused(&serve(&config), &["us-east-1"]);
}

#[test]
fn beyond_loopback_a_node_listens_only_when_it_is_told_that_this_is_insecure() {
    let cluster = Cluster::start();
    cluster.node("stop", "us-east-1");
    let http = format!("\"{}\"", cluster.nodes[0].http);
    let open = format!("\"0.0.0.0:{}\"", cluster.nodes[0].http.port());
    let config = changed(&cluster, "us-east-1", &[(&http, &open)]);
    assert_refused(&serve(&config), &["insecure"]);
}

/// A node whose region has another store: its blobs would be taken for the region's.
#[test]
fn a_store_that_is_not_the_regions_is_refused() {
    let cluster = Cluster::start();
    cluster.node("stop", "eu-west-1");
    std::fs::remove_dir_all(blobs(&cluster, "eu-west-1")).expect("the store is lost");
    // It is up until it reaches the group, which refuses it.
    let start = cluster.dev(&["start", "eu-west-1"]).output().expect("`atoll dev` runs");
    let log = cluster.data().join("eu-west-1").join("log");
    wait_for("the node says why it ends", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains("object store").then_some(())
    });
    wait_for("the node ends", || Client::new(&cluster.nodes[1].http.to_string()).get("/livez").is_err().then_some(()));
    drop(start);
}

/// A node that has forgotten its votes and its log must not come back as its old self, and must not harm the others.
#[test]
fn a_node_that_has_lost_its_data_folder_is_refused_and_the_others_go_on() {
    let cluster = Cluster::start();
    cluster.node("stop", "ap-south-1");
    let folder = cluster.data().join("ap-south-1");
    let data = walk(&folder).into_iter().find(|path| path.join("atoll.json").exists()).expect("a data folder");
    std::fs::remove_dir_all(&data).expect("the disk is lost");
    let start = cluster.dev(&["start", "ap-south-1"]).output().expect("`atoll dev` runs");
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    wait_for("the node says why it ends", || {
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        log.contains("the group knows it").then_some(())
    });
    let client = Client::new(&cluster.nodes[0].http.to_string());
    client.push("lost/r", "v1", &Image::new(1, 1, 1_000)).unwrap_or_else(|e| panic!("{e}; {} {log}", text(&start)));
}

fn blobs(cluster: &Cluster, node: &str) -> PathBuf {
    let folder = cluster.data().join(node);
    let found = walk(&folder).into_iter().find(|path| path.join("atoll-store.json").exists());
    found.unwrap_or_else(|| panic!("a store is in {}", folder.display()))
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).flat_map(|path| [vec![path.clone()], walk(&path)].concat()).collect()
}

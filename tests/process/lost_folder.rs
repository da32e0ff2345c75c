//! A voter whose data folder was emptied has forgotten its votes and its log: it must not act as its old self, also when
//! nobody can tell it at its start.

use std::path::PathBuf;

use crate::harness::{Cluster, Node, is_alive, wait_for};
use crate::oci::{Client, Image};

fn client(node: &Node) -> Client {
    Client::new(&node.http.to_string())
}

fn log(cluster: &Cluster, node: &Node) -> String {
    std::fs::read_to_string(cluster.data().join(&node.name).join("log")).unwrap_or_default()
}

fn wait_until_logged(cluster: &Cluster, node: &Node, words: &str) {
    wait_for(format!("the log of {} says {words:?}", node.name), || log(cluster, node).contains(words).then_some(()));
}

/// A gauge of a node; it must be there.
fn gauge(node: &Node, name: &str) -> f64 {
    let page = Client::new(&node.admin.to_string()).get("/metrics").expect("the metrics");
    let page = String::from_utf8(page.body).expect("text");
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is in\n{page}"))
}

fn empty_data_folder(cluster: &Cluster, node: &Node) {
    let folder: PathBuf = cluster.data().join(&node.name).join("data");
    assert!(folder.join("atoll.json").exists(), "{} is a data folder", folder.display());
    std::fs::remove_dir_all(folder).expect("the disk is lost");
    // What it said before is not what the test waits for.
    std::fs::remove_file(cluster.data().join(&node.name).join("log")).expect("a log");
}

/// What is acknowledged by two of three, one of which then loses its disk, is known to one node alone. The emptied one
/// and the one that was away must not go on without it.
#[test]
fn an_emptied_voter_makes_no_quorum_with_one_that_missed_the_last_writes() {
    let cluster = Cluster::start();
    let nodes = cluster.nodes.clone();
    let [first, away, emptied] = &nodes[..] else { panic!("three nodes") };
    let (old, new) = (Image::new(1, 1, 1_000), Image::new(2, 1, 1_000));
    client(away).push("lost/r", "old", &old).expect("all three run");
    cluster.node("stop", &away.name);
    let acknowledged = wait_for("two of three take a push", || client(first).push("lost/r", "new", &new).ok());
    cluster.node("stop", &emptied.name);
    cluster.node("stop", &first.name);
    empty_data_folder(&cluster, emptied);

    // Nobody tells it that it is known. It makes no group, and stands for no election.
    cluster.node("start", &emptied.name);
    wait_until_logged(&cluster, emptied, "all members must run when the group is made");
    let ready = client(emptied).get("/readyz").expect("an answer");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("never been in a group"), "{}", ready.text());
    assert_eq!(client(emptied).get("/livez").expect("an answer").status, 200);
    let init = cluster.try_ask(2, &["cluster", "init"]);
    assert_eq!(init.status.code(), Some(3), "an operator does not make a second group by mistake either");
    assert!(gauge(emptied, "atoll_raft_term") < 1.0, "it has voted for nobody");

    // The first peer that runs knows better, and has no quorum with it.
    let process = cluster.pid(&emptied.name);
    cluster.node("start", &away.name);
    wait_until_logged(&cluster, emptied, "the group knows it");
    wait_for("the emptied node ends", || (!is_alive(process)).then_some(()));
    let death = format!("{} died: exited with code 1", emptied.name);
    wait_for("the supervisor reports it", || cluster.output().contains(&death).then_some(()));
    assert!(gauge(away, "atoll_raft_leader") < 1.0, "one of three leads nothing");
    client(away).push("lost/r", "alone", &old).expect_err("one of three acknowledges nothing");

    // With the one that knows all there is a quorum, and nothing that was acknowledged is lost.
    cluster.node("start", &first.name);
    for node in [first, away] {
        wait_for(format!("{} takes pushes", node.name), || {
            client(node).get("/readyz?for=push").is_ok_and(|a| a.status == 200).then_some(())
        });
        let known = [("atoll-min-revision", acknowledged.to_string())];
        let known: Vec<(&str, &str)> = known.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let answer = client(node).call("GET", "/v2/lost/r/manifests/new", &known, b"").expect("an answer");
        assert_eq!(answer.status, 200, "at {}: {}", node.name, answer.text());
    }
    client(away).push("lost/r", "after", &old).expect("two of three go on");
    assert!(!is_alive(process), "the emptied node stays away");
}

//! What the command line says of a cluster that runs.

use crate::harness::{Cluster, REGIONS, wait_for};

#[test]
fn every_node_tells_of_all_nodes_and_they_agree() {
    let cluster = Cluster::start();
    for asked in 0..cluster.nodes.len() {
        let leaders = wait_for("one leader that all know", || {
            let status = cluster.ask(asked, &["cluster", "status"]);
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let known = nodes.len() == REGIONS.len() && nodes.iter().all(|n| n["applied_revision"].is_u64());
            let leaders = nodes.iter().filter(|n| n["leader"] == true).count();
            (known && leaders > 0).then_some(leaders)
        });
        assert_eq!(leaders, 1);
    }
    let check = cluster.ask(0, &["cluster", "check"]);
    assert_eq!(check["equal"], true, "{check}");
    assert_eq!(check["nodes"].as_array().map(Vec::len), Some(REGIONS.len()), "{check}");
}

#[test]
fn replication_is_paused_and_resumed_for_one_region_or_all() {
    let cluster = Cluster::start();
    let status = cluster.ask(1, &["replication", "status"]);
    let mut regions: Vec<_> =
        status["regions"].as_array().into_iter().flatten().filter_map(|r| r["region"].as_str()).collect();
    regions.sort_unstable();
    assert_eq!(regions, ["ap-south", "eu-west", "us-east"], "{status}");
    let paused = cluster.ask(0, &["replication", "pause", "ap-south"]);
    assert_eq!(paused["regions"], serde_json::json!(["ap-south"]), "{paused}");
    let resumed = cluster.ask(2, &["replication", "resume"]);
    assert!(resumed["revision"].as_u64() > paused["revision"].as_u64(), "{resumed}");
    let refusal = cluster.try_ask(0, &["replication", "pause", "nowhere"]);
    assert!(!refusal.status.success());
}

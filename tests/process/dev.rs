//! `atoll dev` as a person uses it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, atoll, is_alive, listens, text, wait_for};

/// What `dev` promises for its end.
const END_MAX: Duration = Duration::from_secs(10);

#[test]
fn it_prints_where_the_regions_are_and_ends_all_nodes_on_a_signal() {
    let mut cluster = Cluster::start();
    let output = wait_for("the banner", || Some(cluster.output()).filter(|o| o.contains("all nodes take pushes")));
    for node in &cluster.nodes {
        assert!(output.contains(node.region) && output.contains(&node.http.to_string()), "{output}");
    }
    assert!(output.contains("push") && output.contains("pull"), "{output}");
    for signal in [Signal::TERM, Signal::INT] {
        let pids: Vec<_> = cluster.nodes.iter().map(|n| cluster.pid(&n.name)).collect();
        let asked = Instant::now();
        let status = cluster.end(signal);
        assert!(asked.elapsed() <= END_MAX, "{:?}", asked.elapsed());
        assert!(status.success(), "{status}");
        assert!(!pids.into_iter().any(is_alive), "a node outlived its supervisor");
        cluster.up();
    }
}

#[test]
fn the_death_of_the_supervisor_ends_all_nodes_also_stopped_ones() {
    let mut cluster = Cluster::start();
    let pids: Vec<_> = cluster.nodes.iter().map(|n| cluster.pid(&n.name)).collect();
    cluster.signal("eu-west-1", Signal::STOP);
    let killed = Instant::now();
    cluster.end(Signal::KILL);
    for pid in pids {
        wait_for(pid, || (!is_alive(pid)).then_some(()));
    }
    assert!(killed.elapsed() <= END_MAX, "{:?}", killed.elapsed());
    // What the dead supervisor left does not hinder the next.
    cluster.up();
}

#[test]
fn nodes_are_stopped_started_and_restarted_and_a_death_is_reported() {
    let cluster = Cluster::start();
    let eu_west = cluster.nodes[1].clone();
    let first = cluster.pid(&eu_west.name);

    cluster.node("stop", &eu_west.name);
    assert!(!is_alive(first) && !listens(eu_west.http));
    cluster.node("start", &eu_west.name);
    assert!(listens(eu_west.http));
    let second = cluster.pid(&eu_west.name);
    cluster.node("restart", &eu_west.name);
    assert!(!is_alive(second) && listens(eu_west.http));

    cluster.signal(&eu_west.name, Signal::KILL);
    wait_for("its death is reported", || cluster.output().contains("eu-west-1 died: killed by signal 9").then_some(()));
    assert!(!listens(eu_west.http), "it stays down");
    cluster.node("start", &eu_west.name);

    let refusal = cluster.dev(&["stop", "nowhere-1"]).output().unwrap();
    assert_eq!(refusal.status.code(), Some(1), "{}", text(&refusal));
    assert!(text(&refusal).contains("us-east-1"), "{}", text(&refusal));
}

#[test]
fn occupied_ports_and_a_folder_in_use_are_refused_by_name() {
    let cluster = Cluster::prepare("");
    let held = std::net::TcpListener::bind(cluster.nodes[2].grpc).unwrap();
    let refusal = cluster.dev(&[]).output().unwrap();
    assert!(!refusal.status.success());
    assert!(text(&refusal).contains(&cluster.nodes[2].grpc.to_string()), "{}", text(&refusal));
    drop(held);

    let running = Cluster::start();
    let refusal = running.dev(&[]).output().unwrap();
    assert!(!refusal.status.success());
    assert!(text(&refusal).contains("another `dev` (pid "), "{}", text(&refusal));
}

#[test]
fn without_a_supervisor_or_a_node_the_exit_code_is_3() {
    let cluster = Cluster::prepare("");
    let refusal = cluster.dev(&["stop", "us-east-1"]).output().unwrap();
    assert_eq!(refusal.status.code(), Some(3), "{}", text(&refusal));
    let refusal = cluster.try_ask(0, &["cluster", "status"]);
    assert_eq!(refusal.status.code(), Some(3), "{}", text(&refusal));
    assert!(text(&refusal).contains(&cluster.nodes[0].admin.to_string()), "{}", text(&refusal));
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "[node]\nname = \"a-1\"\nregio = \"a\"\n").unwrap();
    let refusal = atoll().args(["serve", "--config"]).arg(&file).output().unwrap();
    assert_eq!(refusal.status.code(), Some(1), "{}", text(&refusal));
    assert!(
        text(&refusal).contains("node.toml:3: unknown key \"regio\"; did you mean \"region\"?"),
        "{}",
        text(&refusal)
    );
}

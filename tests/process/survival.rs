//! What was acknowledged survives: the leader killed in the midst of pushes, and all nodes at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::harness::{Cluster, is_alive, wait_for};
use crate::oci::{Client, Image};

const WRITERS: u64 = 3;

/// Images that writers push while the cluster suffers.
struct Pushes {
    acknowledged: Arc<Mutex<Vec<(String, String, u64)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Pushes {
    fn start(cluster: &Cluster) -> Self {
        let (acknowledged, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let clients: Vec<Client> = cluster.nodes.iter().map(|n| Client::new(&n.http.to_string())).collect();
        let writer = |w: u64| {
            let (acknowledged, stop, clients) = (acknowledged.clone(), stop.clone(), clients.clone());
            std::thread::spawn(move || {
                for i in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (seed, repository, tag) = (w * 1_000_000 + i, format!("survival/w{w}"), format!("t{i}"));
                    let client = &clients[(seed % clients.len() as u64) as usize];
                    if client.push(&repository, &tag, &image(seed)).is_ok() {
                        acknowledged.lock().expect("no writer panics").push((repository, tag, seed));
                    }
                }
            })
        };
        let threads = (0..WRITERS).map(writer).collect();
        Self { acknowledged, stop, threads }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no writer panics").len()
    }

    fn wait_for_more(&self, what: &str) {
        let before = self.count();
        wait_for(format!("pushes are acknowledged {what}"), || (self.count() >= before + 5).then_some(()));
    }

    fn end(self) -> Vec<(String, String, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer ends");
        }
        std::mem::take(&mut self.acknowledged.lock().expect("no writer panics"))
    }
}

fn image(seed: u64) -> Image {
    Image::new(seed, 1, 20_000)
}

fn leader(cluster: &Cluster) -> String {
    wait_for("a leader is known", || {
        let answers = (0..cluster.nodes.len()).map(|i| cluster.try_ask(i, &["cluster", "status"]));
        answers.filter(|a| a.status.success()).find_map(|answer| {
            let status: serde_json::Value = serde_json::from_slice(&answer.stdout).ok()?;
            let nodes = status["nodes"].as_array()?.clone();
            nodes.iter().find(|n| n["leader"] == true).and_then(|n| n["name"].as_str().map(str::to_owned))
        })
    })
}

fn kill(cluster: &Cluster, name: &str) {
    let pid = cluster.pid(name);
    cluster.signal(name, Signal::KILL);
    wait_for(format!("{name} is gone"), || (!is_alive(pid)).then_some(()));
}

#[test]
fn acknowledged_pushes_survive_the_death_of_the_leader_and_of_all_nodes() {
    let mut cluster = Cluster::start();
    let pushes = Pushes::start(&cluster);
    pushes.wait_for_more("at the start");
    for _ in 0..2 {
        let name = leader(&cluster);
        kill(&cluster, &name);
        pushes.wait_for_more("without the leader");
        cluster.node("start", &name);
        cluster.wait_ready();
    }
    let names: Vec<String> = cluster.nodes.iter().map(|n| n.name.clone()).collect();
    for name in &names {
        kill(&cluster, name);
    }
    for name in &names {
        cluster.node("start", name);
    }
    cluster.wait_ready();
    pushes.wait_for_more("after all were killed");
    let acknowledged = pushes.end();
    for node in &cluster.nodes {
        let client = Client::new(&node.http.to_string());
        // One linearizable read brings the node up to all that was acknowledged.
        let barrier = [("atoll-consistency", "linearizable")];
        client.call("GET", "/v2/survival/w0/tags/list", &barrier, b"").expect("an answer");
        for (repository, tag, seed) in &acknowledged {
            client.check(repository, tag, &image(*seed)).unwrap_or_else(|e| panic!("at {}: {e}", node.name));
        }
    }
    let check = cluster.ask(0, &["cluster", "check", "--deep"]);
    assert_eq!(check["equal"], true, "{check}");
    assert_eq!(check["nodes"].as_array().map(Vec::len), Some(3), "{check}");
}

//! The real group (openraft, gRPC, RocksDB) on real threads, under a schedule of faults that a seed decides: links are
//! cut and mended, the lead is handed over, nodes end and start, while clients write and read. The schedule is the
//! seed's, the interleaving is not; the simulation in `chaos/sim` has both, and no Raft.
//!
//! `ATOLL_CONSENSUS_SEEDS=FROM..TO` runs other seeds than the few that always run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;
mod cluster;
mod link;
mod schedule;

use std::sync::Arc;

use clients::{Clients, Register};
use cluster::Cluster;
use schedule::Schedule;

/// A few, so that each run of the tests has them.
const SEEDS: std::ops::Range<u64> = 1..3;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ATOLL_CONSENSUS_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn under_any_schedule_nothing_acknowledged_is_lost_and_all_nodes_end_up_equal() {
    for seed in seeds() {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let cluster = Arc::new(Cluster::formed(3).await);
    let clients = Clients::start(&cluster, seed);
    let fired = Schedule::new(seed).play(&cluster).await;
    let registers = clients.end().await;
    cluster.mend().await;
    cluster.settle().await;
    for register in &registers {
        for node in 0..3 {
            register.check_final(cluster.version(node, &register.repository), node, seed);
        }
    }
    cluster.assert_equal().await;
    cluster.stop_all().await;
    let [acknowledged, unknown, failed, reads] = Register::totals(&registers);
    println!("seed {seed}: {fired:?}; writes {acknowledged} ok, {unknown} unknown, {failed} failed; {reads} reads");
    assert!(acknowledged > 20, "seed {seed}: too little was written to prove anything: {acknowledged}");
    assert!(reads > 10, "seed {seed}: too little was read to prove anything: {reads}");
    assert!(fired.all_fired(), "seed {seed}: a fault never fired: {fired:?}");
}

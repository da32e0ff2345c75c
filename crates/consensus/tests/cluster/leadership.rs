//! The proof of leadership: not by answers that the network has kept, and not in the way of an election.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_consensus::{GroupOptions, Timing};
use tokio::time::Instant;

use crate::harness::{Cluster, eventually, push, soon, within};
use crate::way::{Appends, Way};

/// Nodes that reach each other only by ways of the test.
struct Ways(BTreeMap<(usize, usize), Way>);

impl Ways {
    async fn between(cluster: &Cluster) -> Self {
        let count = cluster.members.len();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let mut ways = BTreeMap::new();
        for (from, to) in pairs {
            ways.insert((from, to), Way::to(&cluster.members[to].grpc_address).await);
        }
        Self(ways)
    }

    async fn start(&self, cluster: &mut Cluster, index: usize) {
        let to_others = self.0.iter().filter(|((from, _), _)| *from == index);
        let peer_addresses = to_others.map(|((_, to), way)| (cluster.members[*to].node, way.address.clone())).collect();
        let options = GroupOptions { peer_addresses, ..cluster.options(index) };
        cluster.start_with(index, options).await;
    }

    fn way(&self, from: usize, to: usize) -> &Way {
        &self.0[&(from, to)]
    }

    fn close_both(&self, one: usize, other: usize) {
        self.way(one, other).close();
        self.way(other, one).close();
    }
}

/// Three nodes that reach each other by ways of the test.
async fn group_over_ways() -> (Cluster, Ways) {
    group_in_time(Timing::LOCAL).await
}

async fn group_in_time(timing: Timing) -> (Cluster, Ways) {
    let mut cluster = Cluster::new(3);
    // The stream of appends outlives it all, however busy the machine is.
    cluster.timing = Timing { log_stall: Duration::from_secs(120), ..timing };
    let ways = Ways::between(&cluster).await;
    for index in 0..3 {
        ways.start(&mut cluster, index).await;
    }
    cluster.form().await;
    (cluster, ways)
}

/// Its lease runs out, and it keeps silent so that the others can elect. Proofs, which the others go on asking it for,
/// must not be heard in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_heard_and_hears_nothing_gives_way() {
    within(async {
        let (cluster, ways) = group_over_ways().await;
        let old = cluster.leader().await;
        let (near, far) = ((old + 1) % 3, (old + 2) % 3);
        cluster.propose(old, push("before")).await.expect("written");
        let old_node = cluster.members[old].node;
        for other in [near, far] {
            ways.way(old, other).hold_answers();
        }
        eventually("another leader", || cluster.node(near).leader().filter(|leader| *leader != old_node)).await;
        // It may have been read-only for a moment, and refuses writes until it has heard of the quorum again.
        cluster.node(near).wait_ready(soon()).await.expect("a quorum");
        cluster.propose(near, push("after")).await.expect("written");
    })
    .await;
}

/// HTTP/2 closes a connection on which many calls were begun and given up, with the heartbeats on it.
#[tokio::test(flavor = "multi_thread")]
async fn proofs_do_not_pile_up_before_a_voter_that_is_slow() {
    within(async {
        let (cluster, ways) = group_over_ways().await;
        let leader = cluster.leader().await;
        let slow = ways.way(leader, (leader + 1) % 3);
        slow.hold_answers();
        let (start, before) = (Instant::now(), slow.calls());
        for _ in 0..500 {
            cluster.node(leader).barrier(soon()).await.expect("a quorum");
        }
        // Proofs have one at a time, of at most `election_min`; openraft has heartbeats of its own.
        let most = 10.0 + 4.0 * start.elapsed().div_duration_f64(cluster.timing.heartbeat);
        let calls = slow.calls() - before;
        assert!(calls as f64 <= most, "{calls} calls in {:?}", start.elapsed());
    })
    .await;
}

/// Writes until word of a commit has gone by an append of its own: a heartbeat may have told it before.
async fn quiet(cluster: &Cluster, leader: usize, way: &Way) -> Appends {
    loop {
        cluster.propose(leader, push("before")).await.expect("written");
        cluster.assert_equal().await;
        if let Some(appends) = way.wait_up_to(Duration::from_secs(1), Appends::is_quiet).await {
            return appends;
        }
    }
}

/// openraft takes the answer to an append for one to an empty append that was sent after it. Two appends are on their way
/// when a leader is cut off; the answer to the first one lets it commit, which it tells by an empty append; by then the
/// others have elected another, and written. The answer to the second one must not prove that nobody else leads.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_were_kept_until_another_leads_prove_nothing() {
    within(async {
        // Nobody else is elected for as long as a busy disk stands still.
        let (election_min, election_max) = (Duration::from_secs(3), Duration::from_secs(4));
        let (cluster, ways) = group_in_time(Timing { election_min, election_max, ..Timing::LOCAL }).await;
        let old = cluster.leader().await;
        let (near, far) = ((old + 1) % 3, (old + 2) % 3);

        // Two appends reach only one node, and their answers are kept.
        let way = ways.way(old, near);
        let streams = quiet(&cluster, old, way).await.streams;
        ways.close_both(old, far);
        way.keep_answers();
        let (first, second) = (push("first"), push("second"));
        let first = async { cluster.propose(old, first).await };
        let second = async {
            way.wait_for("the first append", |appends| appends.kept_with_entries().len() == 1).await;
            cluster.propose(old, second).await
        };
        let rest = async {
            let appends = way.wait_for("both appends", |appends| appends.kept_with_entries().len() == 2).await;
            let kept = appends.kept_with_entries();

            // Nobody hears the old leader any more; the others elect another.
            ways.close_both(old, near);
            let old_node = cluster.members[old].node;
            eventually("another leader", || cluster.node(near).leader().filter(|leader| *leader != old_node)).await;
            let newer = cluster.propose(near, push("newer")).await.expect("written").revision;
            let written = Instant::now();
            // When a round that began since ends, the next one begins: in that the answers come.
            let barrier = cluster.node(old).barrier(soon()).await;
            assert!(barrier.is_err(), "nobody answers, and there is a barrier at {barrier:?}");

            way.let_go_up_to(kept[0]);
            let told = way.wait_for("word of the commit", Appends::ends_empty).await;
            assert_eq!(streams, told.streams, "all is one stream");
            way.let_go_up_to(kept[1]);
            // The round in which they came has ended when another one has.
            let barrier = cluster.node(old).barrier(soon()).await;
            assert!(barrier.is_err(), "a barrier of the old leader at {barrier:?}, while {newer:?} is written");
            let since = written.elapsed();
            let staleness = cluster.node(old).freshness().staleness.expect("it was current once");
            assert!(staleness >= since, "what was written {since:?} ago is not here, and it is {staleness:?} old");
        };
        let (_, _, ()) = tokio::join!(first, second, rest);
    })
    .await;
}

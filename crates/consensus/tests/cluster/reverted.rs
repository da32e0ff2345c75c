//! A follower whose log comes back shorter than it was.

use std::path::Path;

use crate::harness::{Cluster, push, soon, within};

/// As when the last records of a log are damaged on its disk: they look like such that were being written at a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lost_the_end_of_its_log_is_given_it_again() {
    within(async {
        let mut cluster = Cluster::formed(3).await;
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        cluster.propose(leader, push("before")).await.expect("written");
        cluster.stop(follower).await;
        let (data, older) = (cluster.data(follower), cluster.data(follower).with_extension("older"));
        copy(&data, &older);

        cluster.start(follower).await;
        cluster.node(follower).wait_ready(soon()).await.expect("it catches up");
        for number in 0..20 {
            cluster.propose(leader, push(&format!("after-{number}"))).await.expect("written");
        }
        cluster.node(follower).wait_ready(soon()).await.expect("it has it all");
        cluster.stop(follower).await;
        std::fs::remove_dir_all(&data).expect("the newer folder goes");
        std::fs::rename(&older, &data).expect("the older one takes its place");

        cluster.start(follower).await;
        cluster.node(follower).wait_ready(soon()).await.expect("it is given what it lacks");
        assert_eq!(cluster.repositories(follower).len(), 21);
        cluster.propose(leader, push("again")).await.expect("the leader of before runs");
        cluster.assert_equal().await;
    })
    .await;
}

/// It has acknowledged, and voted, what it does not remember.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_was_emptied_does_not_start() {
    within(async {
        let mut cluster = Cluster::formed(1).await;
        cluster.propose(0, push("before")).await.expect("written");
        cluster.stop(0).await;
        let (log, aside) = (cluster.data(0).join("log"), cluster.data(0).join("aside"));
        std::fs::rename(&log, &aside).expect("the log's folder goes");
        let refused = cluster.try_start(0).await.expect_err("refused").to_string();
        assert!(refused.contains("the log is empty, and the state is at revision"), "{refused}");

        std::fs::remove_dir_all(&log).expect("what was made in its place goes");
        std::fs::rename(&aside, &log).expect("it is back");
        cluster.start(0).await;
        cluster.node(0).wait_ready(soon()).await.expect("nothing is lost");
        assert_eq!(cluster.repositories(0), ["before"]);
    })
    .await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

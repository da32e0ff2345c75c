//! openraft's settings, made of ours. Each that differs from its default says why.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::options::GroupOptions;

/// A snapshot may take hours over a slow link: a receiver on which nothing moves ends the transfer long before, and a
/// connection that is dead does. Only a receiver whose disk hangs for ever is left to this.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn raft_config(options: &GroupOptions) -> Result<Arc<Config>, ConfigError> {
    let timing = &options.timing;
    let retention = &options.retention;
    // A follower of openraft stands for election after the leader's lease, which is the longest election timeout, *and*
    // an election timeout. Halves of ours make that twice the longest at most, which is ours again.
    let (election_min, election_max) = (ms(timing.election_min / 2), ms(timing.leader_lease()));
    let config = Config {
        cluster_name: options.cluster.to_string(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: election_min,
        election_timeout_max: election_max,
        install_snapshot_timeout: ms(SNAPSHOT_TIMEOUT),
        max_payload_entries: 1_024,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(retention.snapshot_every),
        // Whoever is behind is brought up from the log for as long as the log has what it lacks.
        replication_lag_threshold: u64::MAX,
        max_in_snapshot_log_to_keep: retention.entries,
        purge_batch_size: (retention.entries / 16).clamp(1, 10_000),
        api_channel_size: Some(4_096),
        notification_channel_size: Some(8_192),
        backoff: "50ms 100ms 200ms ...1s".to_owned(),
        // When its lease has ended it is silent for so long. The others take part in an election when theirs has ended, which
        // is as long; a longest election timeout after that one of them stands, and there is as much again for the votes.
        quorum_loss_probe_interval: Some(3 * election_max),
        // A node that cannot win does not raise its term.
        enable_pre_vote: Some(true),
        // The state is not synced: a leader that restarts must learn from a quorum what is committed.
        enable_leader_restore: Some(false),
        // The tail of a log whose last records are damaged looks like one that was being written at a crash, and is
        // dropped. Its node is given it again; without this, openraft ends the leader for it.
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_types::{ClusterId, NodeId};

    use super::*;
    use crate::options::{Member, Timing};

    /// What openraft makes of its settings is not documented but in its code (`UTime::is_expired`): lease and timeout.
    #[test]
    fn a_follower_stands_for_election_when_ours_say_so() {
        for timing in [Timing::LOCAL, Timing::REGIONS] {
            let member = Member {
                node: NodeId(1),
                name: "n-1".parse().unwrap(),
                region: "east".parse().unwrap(),
                grpc_address: String::new(),
            };
            let options =
                GroupOptions { timing, ..GroupOptions::new(ClusterId::random(), 1, member, Arc::new(|_| {})) };
            let config = raft_config(&options).unwrap();
            let lease = config.election_timeout_max;
            assert!(lease + config.election_timeout_min >= ms(timing.election_min));
            assert!(lease + config.election_timeout_max <= ms(timing.election_max));
            assert!(ms(timing.quorum_window()) >= ms(timing.election_max) + lease, "room for a second round");
        }
    }
}

//! What a configuration must satisfy beyond its syntax.

use std::net::SocketAddr;

use super::{DiskSection, Member, NodeConfig, RaftSection, Role};

/// A node that needs more is not worth the disk.
const STOP_BELOW_BYTES_MAX: u64 = 1 << 40;
/// Fewer entries between snapshots, or in the log, would make nothing but snapshots.
const RETENTION_ENTRIES_MIN: u64 = 16;

/// What is wrong, and what to do about it.
type Problem = String;

impl NodeConfig {
    /// Checks that the parts fit together and that nothing is served in the clear by accident.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.check_addresses()?;
        self.check_members()?;
        self.raft.check()?;
        self.disk.check()?;
        self.store.check()?;
        self.check_bounds()
    }

    fn addresses(&self) -> [(&'static str, SocketAddr); 3] {
        [("http", self.listen.http), ("grpc", self.listen.grpc), ("admin", self.listen.admin)]
    }

    fn check_addresses(&self) -> Result<(), Problem> {
        let addresses = self.addresses();
        for (i, (key, address)) in addresses.iter().enumerate() {
            if !address.ip().is_loopback() && !self.http.insecure {
                return Err(format!(
                    "[listen] {key} = \"{address}\" is reachable from other machines and there is no TLS; listen on \
                     127.0.0.1 behind a proxy, or set `insecure = true` in [http] if that network is trusted"
                ));
            }
            if let Some((other, _)) = addresses[..i].iter().find(|(_, o)| o == address && address.port() != 0) {
                return Err(format!("[listen] {key} and {other} are both {address}; give each its own port"));
            }
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), Problem> {
        for (i, member) in self.cluster.members.iter().enumerate() {
            let clash = |o: &&Member| o.id == member.id || o.name == member.name || o.grpc == member.grpc;
            if let Some(other) = self.cluster.members[..i].iter().find(clash) {
                return Err(format!(
                    "[[cluster.members]] {} and {} share an id, a name or a grpc address; each needs its own",
                    other.name, member.name
                ));
            }
        }
        if self.cluster.bootstrap && !self.cluster.members.iter().any(|m| m.role != Role::Learner) {
            return Err("[cluster] bootstrap = true needs at least one member that votes".into());
        }
        match self.cluster.members.iter().find(|m| m.id == self.node.id || m.name == self.node.name) {
            Some(me) if !self.is(me) => Err(format!(
                "[node] is {} ({}) in {}, but [[cluster.members]] has {} ({}) in {}; they must agree on id, name, \
                 region and role",
                self.node.name, self.node.id, self.node.region, me.name, me.id, me.region
            )),
            None if self.cluster.bootstrap => {
                Err(format!("[cluster] bootstrap = true, but [[cluster.members]] lacks {}", self.node.name))
            }
            _ => Ok(()),
        }
    }

    fn is(&self, me: &Member) -> bool {
        let node = &self.node;
        me.id == node.id && me.name == node.name && me.region == node.region && me.role == node.role
    }

    fn check_bounds(&self) -> Result<(), Problem> {
        let bounds = [
            ("[http] requests_max", self.http.requests_max as u64),
            ("[http] body_idle_ms", self.http.body_idle_ms),
            ("[http] read_wait_ms", self.http.read_wait_ms),
            ("[http] write_wait_ms", self.http.write_wait_ms),
            ("[reads] max_staleness_ms", self.reads.max_staleness_ms),
            ("[replication] concurrency", self.replication.concurrency as u64),
            ("[replication] streams_max", self.replication.streams_max as u64),
            ("[replication] spool_bytes_max", self.replication.spool_bytes_max),
            ("[replication] link_bytes_per_s", self.replication.link_bytes_per_s.unwrap_or(1)),
            ("[shutdown] deadline_ms", self.shutdown.deadline_ms),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(format!("{key} is 0; nothing would ever be served, give at least 1")),
            None => Ok(()),
        }
    }
}

impl DiskSection {
    fn check(&self) -> Result<(), Problem> {
        /// More would leave next to nothing of a disk.
        const PERCENT_MAX: u64 = 90;
        let Self { refuse_below_percent: refuse, resume_above_percent: resume, .. } = *self;
        // One mark for both would be crossed to and fro; without any, `stop_below_bytes` makes two.
        let are_apart = resume > refuse || (refuse, resume) == (0, 0);
        if refuse > PERCENT_MAX || resume > PERCENT_MAX || !are_apart {
            return Err(format!(
                "[disk] refuse_below_percent = {refuse}, resume_above_percent = {resume}: give at most {PERCENT_MAX} of both, \
                 and resume above where it is refused, or 0 for both"
            ));
        }
        if self.stop_below_bytes > STOP_BELOW_BYTES_MAX {
            let stop = self.stop_below_bytes;
            return Err(format!("[disk] stop_below_bytes = {stop}: give at most {STOP_BELOW_BYTES_MAX}"));
        }
        Ok(())
    }
}

impl RaftSection {
    fn check(&self) -> Result<(), Problem> {
        let Self { heartbeat_ms, election_min_ms, election_max_ms, .. } = *self;
        if heartbeat_ms == 0 || election_min_ms <= heartbeat_ms.saturating_mul(2) || election_max_ms <= election_min_ms
        {
            return Err(format!(
                "[raft] heartbeat_ms = {heartbeat_ms}, election_min_ms = {election_min_ms}, election_max_ms = \
                 {election_max_ms} would elect without end; election_min_ms must be above twice heartbeat_ms, and \
                 election_max_ms above election_min_ms"
            ));
        }
        let retention = [("snapshot_every", self.snapshot_every), ("log_entries_max", self.log_entries_max)];
        match retention.iter().find(|(_, entries)| *entries < RETENTION_ENTRIES_MIN) {
            Some((key, entries)) => Err(format!("[raft] {key} = {entries}: give at least {RETENTION_ENTRIES_MIN}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::parse;
    use super::*;

    const TEXT: &str = r#"
        [node]
        name = "us-east-1"
        id = 1
        region = "us-east"
        role = "voter"
        data = "/var/lib/atoll"

        [listen]
        http = "127.0.0.1:5001"
        grpc = "127.0.0.1:7001"
        admin = "127.0.0.1:9001"

        [cluster]
        id = "00112233445566778899aabbccddeeff"
        bootstrap = true

        [[cluster.members]]
        id = 1
        name = "us-east-1"
        region = "us-east"
        http = "127.0.0.1:5001"
        grpc = "127.0.0.1:7001"
        admin = "127.0.0.1:9001"
    "#;

    fn config() -> NodeConfig {
        parse(Path::new("node.toml"), TEXT).unwrap()
    }

    fn refusal(change: impl FnOnce(&mut NodeConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().unwrap_err()
    }

    #[test]
    fn a_small_file_is_enough_and_defaults_fill_the_rest() {
        let config = config();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.reads.max_staleness_ms, 1_000);
        assert_eq!(config.blobs_folder().as_deref(), Some(Path::new("/var/lib/atoll/blobs")));
        assert_eq!(config.advertised_grpc(), "127.0.0.1:7001");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut config = config();
        config.reads.tag_reads.insert("prod/".into(), super::super::TagReads::Linearizable);
        config.replication.round_trips_ms.insert("eu-west".parse().unwrap(), 80);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(parse::<NodeConfig>(Path::new("node.toml"), &text).unwrap(), config, "{text}");
    }

    #[test]
    fn beyond_loopback_needs_insecure() {
        for address in ["0.0.0.0:5001", "[::]:5001", "192.0.2.1:5001"] {
            let refusal = refusal(|c| c.listen.http = address.parse().unwrap());
            assert!(refusal.contains("insecure = true") && refusal.contains(address), "{refusal}");
        }
        let mut open = config();
        open.listen.http = "0.0.0.0:5001".parse().unwrap();
        open.http.insecure = true;
        assert_eq!(open.check(), Ok(()));
    }

    #[test]
    fn addresses_of_one_node_differ() {
        assert!(refusal(|c| c.listen.grpc = c.listen.http).contains("both 127.0.0.1:5001"));
    }

    #[test]
    fn a_node_that_disagrees_with_its_membership_is_refused() {
        assert!(refusal(|c| c.node.region = "eu-west".parse().unwrap()).contains("must agree"));
        assert!(refusal(|c| c.cluster.members.clear()).contains("votes"));
        assert!(refusal(|c| c.cluster.members.push(c.cluster.members[0].clone())).contains("each needs its own"));
    }

    #[test]
    fn timing_that_elects_without_end_is_refused() {
        assert!(refusal(|c| c.raft.election_min_ms = c.raft.heartbeat_ms).contains("elect without end"));
        assert!(refusal(|c| c.raft.election_max_ms = c.raft.election_min_ms).contains("elect without end"));
    }

    #[test]
    fn marks_of_disks_that_contradict_each_other_are_refused() {
        assert!(refusal(|c| c.disk.resume_above_percent = 9).starts_with("[disk] refuse_below_percent = 10"));
        assert!(refusal(|c| c.disk.resume_above_percent = 10).contains("above where it is refused"));
        assert!(refusal(|c| c.disk.resume_above_percent = 91).contains("at most 90"));
        assert!(refusal(|c| c.disk.stop_below_bytes = u64::MAX).contains("stop_below_bytes"));
    }

    #[test]
    fn a_log_of_next_to_nothing_is_refused() {
        assert!(refusal(|c| c.raft.snapshot_every = 0).starts_with("[raft] snapshot_every = 0"));
        assert!(refusal(|c| c.raft.log_entries_max = 1).starts_with("[raft] log_entries_max = 1"));
    }

    #[test]
    fn a_bound_of_zero_is_refused_by_name() {
        assert!(refusal(|c| c.replication.concurrency = 0).starts_with("[replication] concurrency"));
    }
}

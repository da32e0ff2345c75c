//! State of the node that is read when metrics are scraped.

use std::sync::Arc;

use atoll_consensus::Group;
use atoll_metadata::KvError;
use atoll_registry::{MetadataGroup, Mode};
use atoll_replication::{LeaderClock, RegionLag, lag_report};
use atoll_telemetry::{Sample, SampleKind, Source, names};

use super::disk::Disks;

/// Mode, staleness, lag and disks, from the node's own view.
pub(crate) struct NodeGauges {
    metadata: Arc<dyn MetadataGroup>,
    group: Group,
    disks: Arc<Disks>,
    clock: LeaderClock,
}

impl NodeGauges {
    pub(crate) fn new(metadata: Arc<dyn MetadataGroup>, group: Group, disks: Arc<Disks>) -> Self {
        Self { metadata, group, disks, clock: LeaderClock::default() }
    }

    fn raft(&self) -> Vec<Sample> {
        let status = self.group.status();
        vec![
            gauge(names::RAFT_LEADER, "1 if this node leads the group", f64::from(status.leader == Some(status.node))),
            gauge(names::RAFT_TERM, "The Raft term", status.term as f64),
            gauge(names::RAFT_LAST_LOG_INDEX, "The newest entry in this node's log", status.last_log.0 as f64),
        ]
    }

    fn disks(&self) -> Vec<Sample> {
        let takes = f64::from(self.disks.room().check().is_ok());
        let mut samples = vec![gauge(names::DISK_HAS_ROOM, "1 if the disks have room for pushes and fetches", takes)];
        for disk in self.disks.all() {
            let of = |name, help, bytes: u64| labelled(name, help, ("folder", disk.label), bytes as f64);
            samples.push(of(names::DISK_FREE_BYTES, "What is free on the disk of a folder", disk.free_bytes()));
            samples.push(of(names::DISK_SIZE_BYTES, "What the disk of a folder has in all", disk.size_bytes()));
        }
        samples
    }

    fn freshness(&self) -> Vec<Sample> {
        let now = self.metadata.freshness();
        let mut samples = vec![
            gauge(names::MODE_READ_WRITE, "1 if the node takes writes", f64::from(now.mode == Mode::ReadWrite)),
            gauge(names::APPLIED_REVISION, "The newest revision applied at this node", now.applied.0 as f64),
        ];
        if let Some(staleness) = now.staleness {
            let help = "How old this node's view may be; absent while unknown";
            samples.push(gauge(names::STALENESS_SECONDS, help, staleness.as_secs_f64()));
        }
        samples
    }

    fn lag(&self) -> Result<Vec<Sample>, KvError> {
        let regions = lag_report(&self.metadata, &self.clock)?.regions;
        let of = |name, help, value: &dyn Fn(&RegionLag) -> f64| -> Vec<Sample> {
            regions.iter().map(|lag| labelled(name, help, ("region", lag.region.as_str()), value(lag))).collect()
        };
        let age = |lag: &RegionLag| lag.oldest_age_ms.unwrap_or(0) as f64 / 1000.0;
        Ok([
            of(names::REPLICATION_LAG_BLOBS, "Blobs that a region wants and does not have", &|l| l.blobs as f64),
            of(names::REPLICATION_LAG_BYTES, "Bytes that a region wants and does not have", &|l| l.bytes as f64),
            of(names::REPLICATION_LAG_OLDEST_SECONDS, "Age of the oldest blob that a region wants", &age),
            of(names::REPLICATION_LAG_KNOWN, "1 if the lag is exact, 0 if it is at least what is told", &|l| {
                f64::from(l.known)
            }),
        ]
        .concat())
    }
}

impl Source for NodeGauges {
    fn samples(&self) -> Vec<Sample> {
        let mut samples = [self.freshness(), self.raft(), self.disks()].concat();
        match self.lag() {
            Ok(lag) => samples.extend(lag),
            Err(error) => tracing::warn!(%error, "lag is missing from this scrape"),
        }
        samples
    }
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample { name, help, kind: SampleKind::Gauge, labels: Vec::new(), value }
}

fn labelled(name: &'static str, help: &'static str, label: (&'static str, &str), value: f64) -> Sample {
    Sample { labels: vec![(label.0, label.1.to_owned())], ..gauge(name, help, value) }
}

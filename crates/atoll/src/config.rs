//! The configuration of a node: `node.toml`, read once at start. Every key has a name that says its unit.
//!
//! An unknown key is refused and named with its line, so that a typing error never means a default.

mod check;
mod load;
mod store;
mod topology;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use atoll_telemetry::LogFormat;
use atoll_types::{ClusterId, NodeId, NodeName, RegionId};
use serde::{Deserialize, Serialize};

pub(crate) use load::{ConfigError, parse_file};
pub(crate) use store::{S3Section, StoreSection};
pub(crate) use topology::{Topology, TopologyNode, TopologyStore};

/// All that a node is told by its operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// Who it is.
    pub(crate) node: NodeSection,
    /// Where it listens.
    pub(crate) listen: ListenSection,
    /// How others reach it, where that is not where it listens.
    #[serde(default)]
    pub(crate) advertise: AdvertiseSection,
    /// The cluster that it belongs to.
    pub(crate) cluster: ClusterSection,
    /// Timing of the metadata group.
    #[serde(default)]
    pub(crate) raft: RaftSection,
    /// The region's object store. Not given: files under the data folder.
    #[serde(default)]
    pub(crate) store: StoreSection,
    /// How full disks may be.
    #[serde(default)]
    pub(crate) disk: DiskSection,
    /// How fresh reads are.
    #[serde(default)]
    pub(crate) reads: ReadsSection,
    /// What clients may ask.
    #[serde(default)]
    pub(crate) http: HttpSection,
    /// How blobs come from other regions.
    #[serde(default)]
    pub(crate) replication: ReplicationSection,
    /// Logs and traces.
    #[serde(default)]
    pub(crate) telemetry: TelemetrySection,
    /// How the node ends.
    #[serde(default)]
    pub(crate) shutdown: ShutdownSection,
}

/// `[node]`: who a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// Its name, for people.
    pub(crate) name: NodeName,
    /// Its number, never used twice in a cluster.
    pub(crate) id: NodeId,
    /// Its region.
    pub(crate) region: RegionId,
    /// What it does in the metadata group.
    pub(crate) role: Role,
    /// Its folder, which no other process may use.
    pub(crate) data: PathBuf,
}

/// What a node does in the metadata group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Votes, and serves pulls.
    #[default]
    Voter,
    /// Serves pulls without a vote.
    Learner,
    /// Votes and keeps metadata; has no object store and serves no pulls.
    Witness,
}

/// `[listen]`: the addresses of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenSection {
    /// For container clients.
    pub(crate) http: SocketAddr,
    /// For other nodes.
    pub(crate) grpc: SocketAddr,
    /// For operators: metrics and the admin service.
    pub(crate) admin: SocketAddr,
}

/// `[advertise]`: `host:port` under which others reach this node; where one is not given, it is the address that
/// the node listens on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvertiseSection {
    /// For container clients, and for nodes that forward an upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<String>,
    /// For other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<String>,
    /// For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<String>,
}

/// `[cluster]`: which cluster, and who was in it when it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterSection {
    /// The cluster's id: 32 hexadecimal digits.
    pub(crate) id: ClusterId,
    /// Raised when a cluster is recovered from a minority or a backup, so that what was cut off stays out.
    #[serde(default = "default_epoch")]
    pub(crate) epoch: u64,
    /// Whether this node makes the metadata group by itself if there is none. All members may have it set:
    /// they make the same group. Otherwise `atoll cluster init` does it.
    #[serde(default)]
    pub(crate) bootstrap: bool,
    /// The nodes that the cluster started with, this one included.
    #[serde(default)]
    pub(crate) members: Vec<Member>,
}

const fn default_epoch() -> u64 {
    1
}

/// A node as others know it: `[[cluster.members]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) id: NodeId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Its region.
    pub(crate) region: RegionId,
    /// What it does in the metadata group.
    #[serde(default)]
    pub(crate) role: Role,
    /// `host:port` for container clients and forwarded uploads.
    pub(crate) http: String,
    /// `host:port` for other nodes.
    pub(crate) grpc: String,
    /// `host:port` for operators.
    pub(crate) admin: String,
}

/// `[raft]`: timing of the metadata group. The defaults fit regions that are continents apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RaftSection {
    /// How often the leader says that it is there.
    pub(crate) heartbeat_ms: u64,
    /// The shortest time without a leader after which a node stands for election.
    pub(crate) election_min_ms: u64,
    /// The longest such time. A node is read-only when it has had no quorum for twice this long.
    pub(crate) election_max_ms: u64,
    /// A snapshot of the state is made after so many entries.
    pub(crate) snapshot_every: u64,
    /// Entries that the log keeps below the newest snapshot: who was away for less needs no snapshot.
    pub(crate) log_entries_max: u64,
    /// About how many bytes the log may have; above it fewer entries are kept.
    pub(crate) log_bytes_max: u64,
}

impl Default for RaftSection {
    fn default() -> Self {
        Self::with_timing(750, 3_000, 6_000)
    }
}

impl RaftSection {
    /// With this timing, and the defaults for all else.
    pub(crate) const fn with_timing(heartbeat_ms: u64, election_min_ms: u64, election_max_ms: u64) -> Self {
        Self {
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
            snapshot_every: 100_000,
            log_entries_max: 1_000_000,
            log_bytes_max: 4 << 30,
        }
    }

    /// How often the leader says that it is there.
    pub(crate) const fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// The shortest election timeout.
    pub(crate) const fn election_min(&self) -> Duration {
        Duration::from_millis(self.election_min_ms)
    }

    /// The longest election timeout.
    pub(crate) const fn election_max(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }
}

/// `[disk]`: how full the disks of the data folder and of the object store may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DiskSection {
    /// With less of a disk free, in percent, pushes are refused and nothing is fetched; in any case with less free than
    /// twice `stop_below_bytes`.
    pub(crate) refuse_below_percent: u64,
    /// With more free, in percent, they are taken again.
    pub(crate) resume_above_percent: u64,
    /// With less free on the data folder's disk, in bytes, the node ends, and does not start.
    pub(crate) stop_below_bytes: u64,
}

impl Default for DiskSection {
    fn default() -> Self {
        Self { refuse_below_percent: 10, resume_above_percent: 12, stop_below_bytes: 32 << 20 }
    }
}

/// `[reads]`: how fresh reads are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReadsSection {
    /// How stale a local read by tag may be before it waits for a barrier.
    pub(crate) max_staleness_ms: u64,
    /// By prefix of the repository's name, the consistency of reads by tag. The longest prefix counts.
    pub(crate) tag_reads: BTreeMap<String, TagReads>,
}

impl Default for ReadsSection {
    fn default() -> Self {
        Self { max_staleness_ms: 1_000, tag_reads: BTreeMap::new() }
    }
}

/// The consistency of reads by tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TagReads {
    /// Local within `max_staleness_ms`.
    Bounded,
    /// Each takes a barrier.
    Linearizable,
}

/// `[http]`: what clients may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpSection {
    /// Names under which clients know this registry. A request with another `ns=` is answered 404. Empty: any.
    pub(crate) server_names: Vec<String>,
    /// Whether the node may listen beyond loopback without TLS.
    pub(crate) insecure: bool,
    /// Most requests at once; more are answered 429.
    pub(crate) requests_max: usize,
    /// How long a client may send nothing in the midst of a body.
    pub(crate) body_idle_ms: u64,
    /// How long a read may wait for a barrier or a revision.
    pub(crate) read_wait_ms: u64,
    /// How long a write may wait for its outcome, counted from the end of its body.
    pub(crate) write_wait_ms: u64,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            server_names: Vec::new(),
            insecure: false,
            requests_max: 4096,
            body_idle_ms: 60_000,
            read_wait_ms: 30_000,
            write_wait_ms: 30_000,
        }
    }
}

/// `[replication]`: how blobs come from other regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReplicationSection {
    /// Blobs that the fetcher fetches at once.
    pub(crate) concurrency: usize,
    /// Most streams from other regions at once, for pulls that read through.
    pub(crate) streams_max: usize,
    /// Most bytes in a second from each peer. Not given: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link_bytes_per_s: Option<u64>,
    /// Most bytes on disk of blobs that pulls are reading through.
    pub(crate) spool_bytes_max: u64,
    /// Round-trip times to regions, as the operator knows them, until they are measured.
    pub(crate) round_trips_ms: BTreeMap<RegionId, u64>,
}

impl Default for ReplicationSection {
    fn default() -> Self {
        Self {
            concurrency: 8,
            streams_max: 32,
            link_bytes_per_s: None,
            spool_bytes_max: 16 << 30,
            round_trips_ms: BTreeMap::new(),
        }
    }
}

/// `[telemetry]`: logs and traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelemetrySection {
    /// What is logged, such as `info` or `info,atoll_consensus=debug`.
    pub(crate) filter: String,
    /// How log lines look.
    pub(crate) format: LogFormat,
    /// Where traces go, such as `http://127.0.0.1:4317`. Not given: no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// Without openraft's warnings of every heartbeat that a dead peer does not answer: a dozen lines a second.
const DEFAULT_FILTER: &str = "info,openraft=warn,openraft::core::heartbeat=error,openraft::replication=error";

impl Default for TelemetrySection {
    fn default() -> Self {
        Self { filter: DEFAULT_FILTER.into(), format: LogFormat::default(), otlp_endpoint: None }
    }
}

/// `[shutdown]`: how the node ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShutdownSection {
    /// How long requests under way may go on after SIGTERM.
    pub(crate) deadline_ms: u64,
}

impl Default for ShutdownSection {
    fn default() -> Self {
        Self { deadline_ms: 6_000 }
    }
}

impl NodeConfig {
    /// Reads and checks a file.
    pub(crate) fn load(path: &std::path::Path) -> Result<Self, ConfigError> {
        let config: Self = parse_file(path)?;
        config.check().map_err(|problem| ConfigError::Refused { file: path.to_owned(), problem })?;
        Ok(config)
    }

    /// The folder of the object store, if it is one in files.
    pub(crate) fn blobs_folder(&self) -> Option<PathBuf> {
        match &self.store {
            StoreSection::Fs { path } => Some(path.clone().unwrap_or_else(|| self.node.data.join("blobs"))),
            StoreSection::S3(_) => None,
        }
    }

    /// `host:port` under which container clients and forwarding nodes reach this node.
    pub(crate) fn advertised_http(&self) -> String {
        self.advertise.http.clone().unwrap_or_else(|| self.listen.http.to_string())
    }

    /// `host:port` under which other nodes reach this node.
    pub(crate) fn advertised_grpc(&self) -> String {
        self.advertise.grpc.clone().unwrap_or_else(|| self.listen.grpc.to_string())
    }

    /// `host:port` under which operators reach this node.
    pub(crate) fn advertised_admin(&self) -> String {
        self.advertise.admin.clone().unwrap_or_else(|| self.listen.admin.to_string())
    }
}

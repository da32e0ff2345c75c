//! What a cluster is made of, and the configuration files of its nodes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The regions of a cluster, each with one node.
pub(crate) const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];

/// Elections of the metadata group, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) heartbeat_ms: u64,
    pub(crate) election_min_ms: u64,
    pub(crate) election_max_ms: u64,
}

impl Timing {
    /// For nodes that are near each other: those of `atoll dev`.
    pub(crate) const NEAR: Self = Self { heartbeat_ms: 200, election_min_ms: 800, election_max_ms: 1_600 };
    /// For links of up to 300 ms: over twice the longest round trip.
    pub(crate) const FAR: Self = Self { heartbeat_ms: 700, election_min_ms: 2_000, election_max_ms: 4_000 };

    /// How long a node without a quorum takes to be read-only.
    pub(crate) const fn quorum_window(&self) -> Duration {
        Duration::from_millis(2 * self.election_max_ms)
    }
}

/// What a run sets beyond addresses and timing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct More {
    /// Lines of `[raft]`, each with its end.
    pub(crate) raft: &'static str,
    /// What reading through may take of the disk.
    pub(crate) spool_bytes_max: Option<u64>,
}

/// A node: who and where it is.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    /// Its name, such as `us-east-1`.
    pub(crate) name: String,
    pub(crate) region: &'static str,
    /// Where it listens.
    pub(crate) listen: Addresses,
    /// Where other nodes reach it: at its links.
    pub(crate) linked: Addresses,
    /// Its folder; the data folder is below it.
    pub(crate) folder: PathBuf,
}

/// Addresses of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl NodeSpec {
    /// Where a small disk of its own may be mounted.
    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// A variable of all nodes, with this one's name where it says `{node}`.
    pub(crate) fn fill_in(&self, value: &str) -> String {
        value.replace("{node}", &self.name)
    }

    /// The names of failpoints that its processes came by.
    pub(crate) fn visits(&self) -> PathBuf {
        self.folder.join("visits")
    }
}

/// The text of a node's configuration.
pub(crate) fn config(nodes: &[NodeSpec], node: usize, cluster_id: &str, timing: Timing, more: More) -> String {
    let me = &nodes[node];
    let mut text = format!(
        "[node]\nname = {:?}\nid = {}\nregion = {:?}\nrole = \"voter\"\ndata = {:?}\n",
        me.name,
        node + 1,
        me.region,
        me.data()
    );
    addresses(&mut text, "[listen]", me.listen);
    addresses(&mut text, "[advertise]", me.linked);
    let _ = writeln!(text, "[cluster]\nid = {cluster_id:?}\nbootstrap = true");
    for (id, member) in (1..).zip(nodes) {
        let head = format!("[[cluster.members]]\nid = {id}\nname = {:?}\nregion = {:?}", member.name, member.region);
        addresses(&mut text, &head, member.linked);
    }
    let Timing { heartbeat_ms, election_min_ms, election_max_ms } = timing;
    let _ = writeln!(
        text,
        "[raft]\nheartbeat_ms = {heartbeat_ms}\nelection_min_ms = {election_min_ms}\nelection_max_ms = {election_max_ms}\n{}\
         [http]\nread_wait_ms = 6000\nwrite_wait_ms = 6000",
        more.raft
    );
    if let Some(bytes) = more.spool_bytes_max {
        let _ = writeln!(text, "[replication]\nspool_bytes_max = {bytes}");
    }
    text
}

fn addresses(text: &mut String, head: &str, at: Addresses) {
    let Addresses { http, grpc, admin } = at;
    let _ = writeln!(text, "{head}\nhttp = \"{http}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"");
}

/// Names and folders of the nodes; their addresses are given by the caller.
pub(crate) fn spec(node: usize, folder: &Path, listen: Addresses, linked: Addresses) -> NodeSpec {
    let region = REGIONS[node];
    let name = format!("{region}-1");
    NodeSpec { folder: folder.join(&name), name, region, listen, linked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_node_is_toml_and_names_its_links() {
        let at = |port: u16| {
            let address = |p| SocketAddr::from(([127, 0, 0, 1], port + p));
            Addresses { http: address(0), grpc: address(1), admin: address(2) }
        };
        let nodes: Vec<_> = (0..3u16).map(|i| spec(i.into(), Path::new("/x"), at(i * 10), at(100 + i * 10))).collect();
        let more = More { raft: "snapshot_every = 60\n", spool_bytes_max: Some(7) };
        let table: toml::Table = config(&nodes, 1, &"0".repeat(32), Timing::NEAR, more).parse().unwrap();
        assert_eq!(table["raft"]["snapshot_every"].as_integer(), Some(60));
        assert_eq!(table["replication"]["spool_bytes_max"].as_integer(), Some(7));
        assert_eq!(table["node"]["id"].as_integer(), Some(2));
        assert_eq!(table["listen"]["grpc"].as_str(), Some("127.0.0.1:11"));
        assert_eq!(table["cluster"]["members"][2]["grpc"].as_str(), Some("127.0.0.1:121"));
        assert_eq!(table["advertise"]["http"].as_str(), Some("127.0.0.1:110"));
    }
}

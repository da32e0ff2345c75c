//! A declared topology: the nodes that `dev`, tests and the bench start on one machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use atoll_types::{NodeName, RegionId};
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, parse, parse_file};
use super::{DiskSection, HttpSection, RaftSection, ReadsSection, ReplicationSection, Role, TelemetrySection};

/// The one that `dev` starts when it is told of no other.
const THREE_REGIONS: &str = include_str!("../../../../cluster/three-regions.toml");

/// The nodes of a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topology {
    /// The nodes; the first is the one that the command line asks by default.
    #[serde(rename = "node")]
    pub(crate) nodes: Vec<TopologyNode>,
    /// The S3 servers that `dev --store s3` runs, one for each region.
    #[serde(default, rename = "store", skip_serializing_if = "Vec::is_empty")]
    pub(crate) stores: Vec<TopologyStore>,
    /// Timing of the metadata group. Not given: short, as fits one machine.
    #[serde(default = "loopback_timing")]
    pub(crate) raft: RaftSection,
    /// How full disks may be, for every node.
    #[serde(default)]
    pub(crate) disk: DiskSection,
    /// How fresh reads are, for every node.
    #[serde(default)]
    pub(crate) reads: ReadsSection,
    /// What clients may ask, for every node.
    #[serde(default)]
    pub(crate) http: HttpSection,
    /// How blobs come from other regions, for every node.
    #[serde(default)]
    pub(crate) replication: ReplicationSection,
    /// Logs and traces, for every node.
    #[serde(default)]
    pub(crate) telemetry: TelemetrySection,
}

/// The S3 server of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopologyStore {
    /// The region.
    pub(crate) region: RegionId,
    /// Where it listens.
    pub(crate) s3: SocketAddr,
}

/// A node of a topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopologyNode {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its region.
    pub(crate) region: RegionId,
    /// What it does in the metadata group.
    #[serde(default)]
    pub(crate) role: Role,
    /// Its address for container clients.
    pub(crate) http: SocketAddr,
    /// Its address for other nodes.
    pub(crate) grpc: SocketAddr,
    /// Its address for operators.
    pub(crate) admin: SocketAddr,
}

impl TopologyNode {
    /// All its addresses, each with what it is for.
    pub(crate) fn addresses(&self) -> [(&'static str, SocketAddr); 3] {
        [("http", self.http), ("grpc", self.grpc), ("admin", self.admin)]
    }
}

/// Timing for nodes on one machine: an election is over in about two seconds, also on a busy one.
const fn loopback_timing() -> RaftSection {
    RaftSection::with_timing(200, 800, 1_600)
}

impl Topology {
    /// Reads a file, or the topology of three regions.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let (name, topology) = match file {
            Some(file) => (file, parse_file::<Self>(file)?),
            None => {
                let name = Path::new("cluster/three-regions.toml");
                (name, parse(name, THREE_REGIONS)?)
            }
        };
        topology.check().map_err(|problem| ConfigError::Refused { file: name.to_owned(), problem })?;
        Ok(topology)
    }

    /// The names of all nodes, for messages.
    pub(crate) fn names(&self) -> String {
        self.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The S3 server of a region.
    pub(crate) fn store_of(&self, region: &RegionId) -> Option<&TopologyStore> {
        self.stores.iter().find(|store| store.region == *region)
    }

    fn check(&self) -> Result<(), String> {
        if !self.nodes.iter().any(|n| n.role != Role::Learner) {
            return Err("it needs at least one [[node]] that votes".into());
        }
        let mut names = BTreeMap::new();
        let mut taken = BTreeMap::new();
        let mut regions = BTreeMap::new();
        for store in &self.stores {
            let user = format!("the store of {}", store.region);
            if regions.insert(&store.region, ()).is_some() {
                return Err(format!("{} has two stores; all nodes of a region share one", store.region));
            }
            if !store.s3.ip().is_loopback() || store.s3.port() == 0 {
                return Err(format!("{user} is at {}; a topology needs loopback addresses with a port", store.s3));
            }
            if let Some(other) = taken.insert(store.s3, user.clone()) {
                return Err(format!("{} is both {other} and {user}; each needs its own", store.s3));
            }
        }
        for node in &self.nodes {
            if names.insert(&node.name, ()).is_some() {
                return Err(format!("two nodes are called {}; each needs its own name", node.name));
            }
            for (key, address) in node.addresses() {
                let user = format!("{key} of {}", node.name);
                if !address.ip().is_loopback() || address.port() == 0 {
                    return Err(format!("{user} is {address}; a topology needs loopback addresses with a port"));
                }
                if let Some(other) = taken.insert(address, user.clone()) {
                    return Err(format!("{address} is both {other} and {user}; each needs its own"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::load(None).unwrap()
    }

    #[test]
    fn the_default_is_three_regions_as_documented() {
        let of = |n: &TopologyNode| (n.name.to_string(), n.region.to_string(), n.addresses().map(|(_, a)| a.port()));
        let expected = [
            ("us-east-1", "us-east", [5001, 7001, 9001]),
            ("eu-west-1", "eu-west", [5002, 7002, 9002]),
            ("ap-south-1", "ap-south", [5003, 7003, 9003]),
        ];
        let expected = expected.map(|(name, region, ports)| (name.to_owned(), region.to_owned(), ports));
        assert_eq!(topology().nodes.iter().map(of).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn all_declared_topologies_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            Topology::load(Some(&file)).unwrap();
        }
    }

    #[test]
    fn clashes_are_named() {
        let mut twice = topology();
        twice.nodes[1].name = twice.nodes[0].name.clone();
        assert!(twice.check().unwrap_err().contains("us-east-1"));
        let mut shared = topology();
        shared.nodes[2].grpc = shared.nodes[0].http;
        let refusal = shared.check().unwrap_err();
        assert!(refusal.contains("http of us-east-1") && refusal.contains("grpc of ap-south-1"), "{refusal}");
        let mut none = topology();
        none.nodes.clear();
        assert!(none.check().is_err());
    }
}

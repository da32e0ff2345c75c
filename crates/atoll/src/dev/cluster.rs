//! What the cluster of a data folder is: made at its first start, and the same from then on.

use anyhow::{Context, bail};
use atoll_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

use super::folder::{DevFolder, replace};
use super::{StoreKind, stores};
use crate::config::{
    AdvertiseSection, ClusterSection, ListenSection, Member, NodeConfig, NodeSection, ShutdownSection, StoreSection,
    Topology, TopologyNode,
};

/// `DATA/cluster.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterRecord {
    /// The cluster's id.
    pub(super) cluster_id: ClusterId,
    /// Its epoch.
    pub(super) epoch: u64,
    /// Its nodes, in the topology's order.
    pub(super) nodes: Vec<Member>,
    /// Where blobs are kept.
    #[serde(default)]
    pub(super) store: StoreKind,
}

impl ClusterRecord {
    /// The record of a folder; `None` if there was never a cluster in it.
    pub(super) fn read(folder: &DevFolder) -> anyhow::Result<Option<Self>> {
        let path = folder.cluster_record();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let record = serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is damaged; remove {} to begin anew", path.display(), folder.path().display())
        })?;
        Ok(Some(record))
    }

    /// The record of a folder, made if there is none. A folder of another topology is refused: its nodes know each
    /// other by what they were started with.
    pub(super) fn open(folder: &DevFolder, topology: &Topology, store: Option<StoreKind>) -> anyhow::Result<Self> {
        let nodes = members(topology);
        match Self::read(folder)? {
            Some(record) if store.is_some_and(|store| store != record.store) => bail!(
                "{} holds a cluster whose blobs are kept in {}, and they stay there; leave --store out, or give this one a \
                 folder of its own with --data",
                folder.path().display(),
                match record.store {
                    StoreKind::Fs => "files",
                    StoreKind::S3 => "S3 servers",
                }
            ),
            Some(record) if record.nodes == nodes => Ok(record),
            Some(record) => bail!(
                "{} holds a cluster of other nodes or addresses ({}); start it with the topology that it was made with, \
                 or give this one a folder of its own with --data",
                folder.path().display(),
                record.nodes.iter().map(|n| format!("{} at {}", n.name, n.http)).collect::<Vec<_>>().join(", ")
            ),
            None => {
                let store = store.unwrap_or_default();
                let record = Self { cluster_id: ClusterId::random(), epoch: 1, nodes, store };
                replace(&folder.cluster_record(), &serde_json::to_vec_pretty(&record)?)?;
                Ok(record)
            }
        }
    }

    /// The configuration of a node.
    pub(super) fn node_config(&self, folder: &DevFolder, topology: &Topology, node: &TopologyNode) -> NodeConfig {
        let id = self.nodes.iter().find(|m| m.name == node.name).map_or(NodeId(0), |m| m.id);
        NodeConfig {
            node: NodeSection {
                name: node.name.clone(),
                id,
                region: node.region.clone(),
                role: node.role,
                data: folder.node(&node.name).join("data"),
            },
            listen: ListenSection { http: node.http, grpc: node.grpc, admin: node.admin },
            advertise: AdvertiseSection::default(),
            cluster: ClusterSection {
                id: self.cluster_id,
                epoch: self.epoch,
                bootstrap: true,
                members: self.nodes.clone(),
            },
            raft: topology.raft.clone(),
            store: topology.store_of(&node.region).map_or_else(StoreSection::default, |s| stores::section(folder, s)),
            disk: topology.disk.clone(),
            reads: topology.reads.clone(),
            http: topology.http.clone(),
            replication: topology.replication.clone(),
            telemetry: topology.telemetry.clone(),
            // Below the time after which the supervisor kills.
            shutdown: ShutdownSection { deadline_ms: 5_000 },
        }
    }
}

fn members(topology: &Topology) -> Vec<Member> {
    let numbered = topology.nodes.iter().zip(1..);
    numbered
        .map(|(node, id)| Member {
            id: NodeId(id),
            name: node.name.clone(),
            region: node.region.clone(),
            role: node.role,
            http: node.http.to_string(),
            grpc: node.grpc.to_string(),
            admin: node.admin.to_string(),
        })
        .collect()
}

/// Writes `node.toml` of a node.
pub(super) fn write_node_config(folder: &DevFolder, config: &NodeConfig) -> anyhow::Result<()> {
    let path = folder.node(&config.node.name);
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let text = toml::to_string(config).context("a configuration that cannot be written")?;
    let header =
        "# Written by `atoll dev` at every start; what you change here is lost. Change the topology instead.\n";
    replace(&path.join("node.toml"), format!("{header}{text}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, DevFolder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = DevFolder::new(Some(temp.path().to_owned())).unwrap();
        (temp, folder)
    }

    #[test]
    fn a_cluster_is_made_once() {
        let (_temp, folder) = folder();
        let topology = Topology::load(None).unwrap();
        assert_eq!(ClusterRecord::read(&folder).unwrap(), None);
        let made = ClusterRecord::open(&folder, &topology, None).unwrap();
        assert_eq!(ClusterRecord::open(&folder, &topology, None).unwrap(), made);
    }

    #[test]
    fn the_folder_of_another_topology_is_refused() {
        let (_temp, folder) = folder();
        let mut topology = Topology::load(None).unwrap();
        ClusterRecord::open(&folder, &topology, None).unwrap();
        topology.nodes[0].http.set_port(5999);
        let refusal = ClusterRecord::open(&folder, &topology, None).unwrap_err().to_string();
        assert!(refusal.contains("us-east-1 at 127.0.0.1:5001"), "{refusal}");
    }

    #[test]
    fn what_is_written_for_a_node_is_a_configuration_that_it_accepts() {
        let (_temp, folder) = folder();
        let topology = Topology::load(None).unwrap();
        let record = ClusterRecord::open(&folder, &topology, None).unwrap();
        for node in &topology.nodes {
            let config = record.node_config(&folder, &topology, node);
            write_node_config(&folder, &config).unwrap();
            assert_eq!(NodeConfig::load(&folder.node(&node.name).join("node.toml")).unwrap(), config);
        }
    }
}

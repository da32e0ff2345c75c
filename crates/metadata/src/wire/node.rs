//! Nodes.

use atoll_types::NodeId;
use prost::Message;

use super::{Decoded, NAME_BYTES_MAX, incarnation_opt, invalid, parse, store_opt, text};
use crate::{NodeRole, RegisterNode};

/// A node, in a command and in the state.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeMessage {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    region: String,
    #[prost(uint32, tag = "4")]
    role: u32,
    #[prost(string, tag = "5")]
    grpc_address: String,
    #[prost(string, tag = "6")]
    http_address: String,
    #[prost(string, tag = "7")]
    admin_address: String,
    #[prost(bytes = "vec", tag = "8")]
    store: Vec<u8>,
    #[prost(string, tag = "9")]
    store_kind: String,
    #[prost(uint32, tag = "10")]
    feature_level: u32,
    #[prost(bytes = "vec", tag = "11")]
    incarnation: Vec<u8>,
}

impl NodeMessage {
    pub(crate) fn of(node: &RegisterNode) -> Self {
        Self {
            node: node.node.0,
            name: node.name.to_string(),
            region: node.region.to_string(),
            role: match node.role {
                NodeRole::Voter => 1,
                NodeRole::Learner => 2,
                NodeRole::Witness => 3,
            },
            grpc_address: node.grpc_address.clone(),
            http_address: node.http_address.clone(),
            admin_address: node.admin_address.clone(),
            store: node.store.map(|s| s.as_bytes().to_vec()).unwrap_or_default(),
            store_kind: node.store_kind.clone(),
            feature_level: node.feature_level,
            incarnation: node.incarnation.map(|i| i.as_bytes().to_vec()).unwrap_or_default(),
        }
    }

    pub(crate) fn checked(self) -> Decoded<RegisterNode> {
        Ok(RegisterNode {
            node: NodeId(self.node),
            name: parse("node", &self.name)?,
            region: parse("region", &self.region)?,
            role: match self.role {
                1 => NodeRole::Voter,
                2 => NodeRole::Learner,
                3 => NodeRole::Witness,
                other => return Err(invalid("role", other)),
            },
            grpc_address: text("address", self.grpc_address, NAME_BYTES_MAX)?,
            http_address: text("address", self.http_address, NAME_BYTES_MAX)?,
            admin_address: text("address", self.admin_address, NAME_BYTES_MAX)?,
            store: store_opt(&self.store)?,
            store_kind: text("store kind", self.store_kind, NAME_BYTES_MAX)?,
            feature_level: self.feature_level,
            incarnation: incarnation_opt(&self.incarnation)?,
        })
    }
}

//! A node.

use atoll_types::NodeId;
use prost::Message;

use super::{Key, Reader, Writer};
use crate::wire::NodeMessage;

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeKey {
    /// Its number.
    pub(crate) node: NodeId,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeRecord {
    /// The change that wrote it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// As it registered.
    #[prost(message, optional, tag = "2")]
    pub(crate) node: Option<NodeMessage>,
    /// It was removed: the record stays so that its number is never used again.
    #[prost(bool, tag = "3")]
    pub(crate) removed: bool,
}

impl Key for NodeKey {
    const PREFIX: u8 = 0x23;
    type Record = NodeRecord;

    fn write(&self, to: &mut Writer) {
        to.number(self.node.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { node: NodeId(from.number()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use crate::{NodeRole, RegisterNode};
    use proptest::prelude::*;

    fn a_node(number: u64) -> RegisterNode {
        RegisterNode {
            node: NodeId(number),
            name: "us-east-1".parse().unwrap(),
            region: region(),
            role: NodeRole::Voter,
            grpc_address: "g:1".into(),
            http_address: "h:2".into(),
            admin_address: "a:3".into(),
            store: Some(atoll_types::StoreId::from_bytes([7; 16])),
            store_kind: "fs".into(),
            feature_level: 1,
            incarnation: None,
        }
    }

    #[test]
    fn what_has_landed_never_changes() {
        let record = NodeRecord { revision: 1, node: Some(NodeMessage::of(&a_node(258))), removed: true };
        golden(
            &NodeKey { node: NodeId(258) },
            &record,
            "230000000000000102",
            "0108011240088202120975732d656173742d311a0775732d6561737420012a03673a313203683a323a03613a334210070707070707070707070707070707074a02667350011801",
        );
        let node = RegisterNode { incarnation: Some(atoll_types::Incarnation::from_bytes([9; 16])), ..a_node(258) };
        let record = NodeRecord { revision: 1, node: Some(NodeMessage::of(&node)), removed: false };
        golden(
            &NodeKey { node: NodeId(258) },
            &record,
            "230000000000000102",
            "0108011252088202120975732d656173742d311a0775732d6561737420012a03673a313203683a323a03613a334210070707070707070707070707070707074a02667350015a1009090909090909090909090909090909",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(number: u64, revision: u64, removed: bool, folder: Option<[u8; 16]>) {
            let incarnation = folder.map(atoll_types::Incarnation::from_bytes);
            let node = RegisterNode { incarnation, ..a_node(number) };
            let message = NodeMessage::of(&node);
            prop_assert_eq!(message.clone().checked(), Ok(node));
            round_trips(NodeKey { node: NodeId(number) }, NodeRecord { revision, node: Some(message), removed })?;
        }
    }
}

//! Nodes.

use atoll_types::{Incarnation, NodeId};

use super::{Run, Step, placement};
use crate::keys::Key;
use crate::keys::node::{NodeKey, NodeRecord};
use crate::wire::NodeMessage;
use crate::{Done, KvError, NodeConflict, NodeRole, RegisterNode, Rejection};

/// Most nodes that a cluster ever has, removed ones included.
pub(crate) const NODES_MAX: usize = 1_024;

/// RegisterNode.
pub(super) fn register_node(step: &mut Step<'_>, node: &RegisterNode) -> Run<Done> {
    let region = placement::known_region(step, &node.region)?;
    let known = check_identity(step, node)?;
    if node.role != NodeRole::Witness {
        check_store(node, &region.store, &known.others)?;
    }
    // A build that knows of no incarnations does not take one away.
    let node = &RegisterNode { incarnation: node.incarnation.or(known.incarnation), ..node.clone() };
    let record = NodeRecord { revision: step.revision.0, node: Some(NodeMessage::of(node)), removed: false };
    step.put(&NodeKey { node: node.node }, &record);
    Ok(Done::Empty)
}

/// What the group knows of the nodes when one registers.
#[derive(Default)]
struct Known {
    /// The folder that the node itself registered with before.
    incarnation: Option<Incarnation>,
    /// The other nodes that were not removed.
    others: Vec<RegisterNode>,
}

/// A number belongs to one name and one data folder for ever, and a name to one number at a time.
fn check_identity(step: &Step<'_>, node: &RegisterNode) -> Run<Known> {
    let conflict = |why| Err(Rejection::NodeConflict(why).into());
    let (mut known, all) = (Known::default(), step.page::<NodeKey>(&[NodeKey::PREFIX], &[], NODES_MAX)?);
    let is_new = all.iter().all(|(key, _)| key.node != node.node);
    if is_new && all.len() == NODES_MAX {
        return conflict(NodeConflict::Full { limit: NODES_MAX as u64 });
    }
    for (key, record) in all {
        let (removed, other) = (record.removed, registered(record)?);
        if key.node == node.node && removed {
            return conflict(NodeConflict::Removed(node.node));
        }
        if key.node == node.node && other.name != node.name {
            return conflict(NodeConflict::NumberTaken { node: node.node, name: other.name });
        }
        if key.node == node.node {
            check_folder(node, other.incarnation)?;
            known.incarnation = other.incarnation;
        } else if !removed {
            if other.name == node.name {
                return conflict(NodeConflict::NameTaken { name: other.name, node: other.node });
            }
            known.others.push(other);
        }
    }
    Ok(known)
}

/// A node that has lost its data folder has forgotten its votes and its log: it is not the one that registered.
fn check_folder(node: &RegisterNode, registered: Option<Incarnation>) -> Run<()> {
    let same = registered.zip(node.incarnation).is_none_or(|(registered, own)| registered == own);
    if same {
        return Ok(());
    }
    let why = NodeConflict::OtherFolder { node: node.node, name: node.name.clone() };
    Err(Rejection::NodeConflict(why).into())
}

/// A node sees the very store of its region, by the same means as the region's other nodes.
fn check_store(node: &RegisterNode, store: &[u8], others: &[RegisterNode]) -> Run<()> {
    let same = node.store.is_some_and(|own| own.as_bytes() == store);
    let kind = |other: &&RegisterNode| other.region == node.region && other.role != NodeRole::Witness;
    let same_kind = others.iter().filter(kind).all(|other| other.store_kind == node.store_kind);
    if same && same_kind { Ok(()) } else { Err(Rejection::StoreMismatch(node.region.to_string()).into()) }
}

/// RemoveNode.
pub(super) fn remove_node(step: &mut Step<'_>, node: NodeId) -> Run<Done> {
    let key = NodeKey { node };
    let Some(record) = step.get(&key)?.filter(|record| !record.removed) else {
        return Err(Rejection::NodeConflict(NodeConflict::Unknown(node)).into());
    };
    step.put(&key, &NodeRecord { revision: step.revision.0, removed: true, ..record });
    Ok(Done::Empty)
}

/// A node as it registered.
pub(crate) fn registered(record: NodeRecord) -> Result<RegisterNode, KvError> {
    let message = record.node.ok_or_else(|| KvError("a node's record is empty".into()))?;
    message.checked().map_err(|error| KvError(error.to_string()))
}

//! Keeps a node whose data folder was emptied from acting as its old self.
//!
//! It has forgotten which votes it gave and which entries it acknowledged: with it in a majority, a leader could be
//! elected that lacks what clients were promised (Raft, section 5.1: votes and log are kept on stable storage). Every
//! node registers the incarnation of its folder, and every call between nodes names the caller's own and the one that
//! the callee is known by. Whoever sees that one of them is not what was registered refuses the call.

use std::collections::HashMap;
use std::path::Path;

use atoll_fault::planted;
use atoll_metadata::read;
use atoll_storage::{StateStore, StorageError};
use atoll_types::{Incarnation, NodeId, NodeName};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::options::OnFatal;

/// What this node knows of incarnations, its own among them.
pub(crate) struct Fence {
    node: NodeId,
    own: Incarnation,
    /// As registered, in the state that is applied here.
    registered: RwLock<HashMap<NodeId, Incarnation>>,
    /// Cancelled once this node is found to have lost its folder: it says nothing more.
    closed: CancellationToken,
    on_fatal: OnFatal,
    /// Why the node must end then.
    lost: String,
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence").field("node", &self.node).field("own", &self.own).finish_non_exhaustive()
    }
}

impl Fence {
    /// `lost` says why the node must end when its folder turns out to be another than the registered one.
    pub(crate) fn new(node: NodeId, own: Incarnation, on_fatal: OnFatal, lost: String) -> Self {
        Self { node, own, registered: RwLock::default(), closed: CancellationToken::new(), on_fatal, lost }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The incarnation of this node's folder.
    pub(crate) fn own(&self) -> Incarnation {
        self.own
    }

    /// The incarnation that a node registered, as far as it is applied here.
    pub(crate) fn registered(&self, node: NodeId) -> Option<Incarnation> {
        self.registered.read().get(&node).copied()
    }

    /// Takes over what is registered in the state, and ends this node if that is another folder than its own.
    pub(crate) fn learn(&self, state: &StateStore) -> Result<(), StorageError> {
        let nodes = state.read(|view| read::nodes(view)).and_then(|nodes| nodes.map_err(StorageError::from))?;
        let registered = nodes.into_iter().filter_map(|node| Some((node.node, node.incarnation?)));
        *self.registered.write() = registered.collect();
        let is_lost = self.registered(self.node).is_some_and(|registered| registered != self.own);
        if is_lost && !planted!("fence_unchecked") {
            self.close();
        }
        Ok(())
    }

    /// This node has lost its folder: it ends, and refuses all until then.
    pub(crate) fn close(&self) {
        if !self.closed.is_cancelled() {
            self.closed.cancel();
            (self.on_fatal)(&self.lost);
        }
    }

    /// Cancelled once this node is found to have lost its folder.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Why this node must end once it is closed.
    pub(crate) fn lost(&self) -> &str {
        &self.lost
    }
}

/// Why a node that has lost its data folder must not take part, and what to do.
pub fn lost_folder(name: &NodeName, data: &Path) -> String {
    format!(
        "node {name} cannot take part: the group knows it by another data folder than the one at {}, which was made \
         anew. Its disk was lost, replaced or is not mounted: mount the old one there. A lost disk must join as a new \
         member, under a new number and name, since this node has forgotten what it acknowledged",
        data.display()
    )
}

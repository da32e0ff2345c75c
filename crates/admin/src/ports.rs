//! What the service needs of the node that it runs in.

use std::time::Duration;

use async_trait::async_trait;
use atoll_metadata::{RegisterNode, read::Cluster};
use atoll_registry::Mode;
use atoll_types::{ClusterId, Revision};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Whether it leads the metadata group.
    pub leader: bool,
    /// What it has applied.
    pub applied: Revision,
    /// Its mode.
    pub mode: Mode,
    /// How old its view may be; `None` is unknown.
    pub staleness: Option<Duration>,
    /// Its process.
    pub pid: u32,
    /// Its state hash at the revision that was asked for; `None` where it does not have it.
    pub state_hash: Option<u128>,
}

/// A state hash that was computed from the whole store, beside the one that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateProof {
    /// At which revision.
    pub revision: Revision,
    /// As kept, updated with each command.
    pub kept: u128,
    /// As computed now.
    pub computed: u128,
}

/// Why a metadata group was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// There is one.
    #[error("the metadata group of cluster {0} exists already; nothing was changed")]
    Exists(ClusterId),
    /// It did not work.
    #[error("the metadata group could not be made: {0}")]
    Failed(String),
}

/// The nodes of the cluster, this one included.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// The cluster that this node belongs to.
    fn cluster(&self) -> Cluster;

    /// The members that the node's configuration names.
    fn declared(&self) -> Vec<RegisterNode>;

    /// Asks a node, this one or another, within `wait`; `None` when it does not answer. With `hash_at` it waits for
    /// that revision to be applied there.
    async fn report(&self, node: &RegisterNode, hash_at: Option<Revision>, wait: Duration) -> Option<NodeReport>;

    /// Makes the metadata group of the declared members.
    async fn initialize(&self) -> Result<(), InitializeError>;

    /// Computes this node's state hash from its whole store. Takes time in proportion to it.
    async fn prove_state(&self) -> Result<StateProof, String>;

    /// Asks another node for the same, over its admin address.
    async fn prove_state_of(&self, node: &RegisterNode) -> Result<StateProof, String>;
}

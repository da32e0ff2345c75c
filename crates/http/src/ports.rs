//! What the composition root tells this crate.

use atoll_types::NodeId;

/// Where other nodes serve this API.
pub trait PeerDirectory: Send + Sync + 'static {
    /// `host:port` of a node; `None` when no such node is known.
    fn http_address(&self, node: NodeId) -> Option<String>;
}

/// Whether this node can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Pulls; why not, in a short sentence.
    pub pulls: Result<(), String>,
    /// Pushes; why not, in a short sentence.
    pub pushes: Result<(), String>,
}

/// Asked by `/readyz`.
pub trait Health: Send + Sync + 'static {
    /// Whether this node can serve now. It must not wait.
    fn ready(&self) -> Readiness;
}

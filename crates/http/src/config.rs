//! Who a node is to its clients, and what it lets them do.

use std::time::Duration;

use atoll_types::{NodeId, RegionId};

/// Bounds of requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Most requests at once, their bodies included; more are answered 429.
    pub requests_max: usize,
    /// How long a client may send nothing in the midst of a request's body, or take nothing of a response's.
    pub body_idle: Duration,
    /// How long a read may wait for a barrier or a revision.
    pub read_wait: Duration,
    /// How long a write may wait for its outcome, counted from the end of its body.
    pub write_wait: Duration,
    /// How long to wait for a connection to the node that owns a session.
    pub forward_connect: Duration,
    /// How long that node may neither take bytes nor answer.
    pub forward_idle: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            requests_max: 4096,
            body_idle: Duration::from_secs(60),
            read_wait: Duration::from_secs(30),
            write_wait: Duration::from_secs(30),
            forward_connect: Duration::from_secs(2),
            forward_idle: Duration::from_secs(45),
        }
    }
}

/// Who this node is, to its clients.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Its region.
    pub region: RegionId,
    /// Its number.
    pub node: NodeId,
    /// The names under which clients know this registry; a request with another `ns=` is refused. Empty: any.
    pub server_names: Vec<String>,
    /// Bounds of requests.
    pub limits: RequestLimits,
}

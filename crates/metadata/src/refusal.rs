//! Details of rejections: facts alone. They are part of the replicated state, the texts that `Display` makes of them are
//! not, so that a text can be reworded without old and new versions diverging.

use atoll_types::{NodeId, NodeName};

/// What is over which limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// A batch.
    #[error("{actual} items in one command, at most {limit} are allowed")]
    Items {
        /// How many it has.
        actual: u64,
        /// How many it may have.
        limit: u64,
    },
    /// The body of a manifest that travels in the log.
    #[error("a manifest of {bytes} bytes must be stored as a blob, since it has more than {limit}")]
    InlineManifest {
        /// Its size in bytes.
        bytes: u64,
        /// The largest that travels in the log.
        limit: u64,
    },
    /// One more region.
    #[error("a cluster has at most {limit} regions")]
    Regions {
        /// How many there may be.
        limit: u64,
    },
    /// The time of a lease.
    #[error("a lease of {ttl_ms} ms was asked for, at most {limit_ms} ms are granted")]
    LeaseTtl {
        /// What was asked for.
        ttl_ms: u64,
        /// The longest.
        limit_ms: u64,
    },
    /// The name of a duty.
    #[error("the name of a duty has {bytes} bytes; at most {limit} are allowed, and none of them zero")]
    Duty {
        /// Its length in bytes.
        bytes: u64,
        /// The longest.
        limit: u64,
    },
    /// As a version told it that kept texts.
    #[error("{0}")]
    Told(String),
}

/// Why a node cannot register, or be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeConflict {
    /// There are as many nodes as there may ever be.
    #[error("a cluster has at most {limit} nodes, removed ones included")]
    Full {
        /// How many there may be.
        limit: u64,
    },
    /// The number is that of a node that was removed.
    #[error("node {0} was removed; a number is never used again, take a new one")]
    Removed(NodeId),
    /// The number is that of another node.
    #[error("number {node} belongs to node {name}")]
    NumberTaken {
        /// The number.
        node: NodeId,
        /// Whose it is.
        name: NodeName,
    },
    /// The name is that of another node.
    #[error("the name {name} belongs to node {node}; remove that first")]
    NameTaken {
        /// The name.
        name: NodeName,
        /// Whose it is.
        node: NodeId,
    },
    /// There is no such node.
    #[error("there is no node {0}")]
    Unknown(NodeId),
    /// The node was registered with another data folder: this one has forgotten its votes and its log.
    #[error(
        "node {node} ({name}) is registered with another data folder, and this one was emptied or replaced: it has \
         forgotten what the node acknowledged. Mount the old one, or add the node as a new member under a new number \
         and name"
    )]
    OtherFolder {
        /// The node.
        node: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// As a version told it that kept texts.
    #[error("{0}")]
    Told(String),
}

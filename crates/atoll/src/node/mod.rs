//! The composition root: a node of its parts.

use crate::config::NodeConfig;

/// Runs a node until it is told to end.
pub(crate) fn run(config: NodeConfig) -> anyhow::Result<()> {
    anyhow::bail!("cannot serve {}: the node is not part of this build yet", config.node.name)
}

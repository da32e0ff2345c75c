//! Failpoints and planted bugs, as far as the environment asks for them.

use anyhow::Context;

// Made by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/fault_names.rs"));

/// Switches them on, and says so in the log.
pub(super) fn arm() -> anyhow::Result<()> {
    if let Some(armed) = atoll_fault::arm(&KNOWN).context("faults on purpose")? {
        tracing::warn!(%armed, "this node fails on purpose");
    }
    Ok(())
}

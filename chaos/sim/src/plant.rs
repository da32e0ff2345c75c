//! Bugs that are planted on request, to prove that the checkers see them: `ATOLL_SIM_PLANT=lost-write`.

use std::sync::OnceLock;

/// A bug of the simulated parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A leader acknowledges a write and forgets it.
    LostWrite,
    /// A barrier passes without waiting for anything.
    StaleBarrier,
    /// An object that is synced is gone.
    LostObject,
    /// A node leaves a revision out.
    SkippedApply,
    /// A node that hears of no quorum goes on as if it did.
    NeverReadOnly,
    /// A node stops applying for good.
    DeadFollower,
    /// Objects that nothing names any more are not written down as garbage.
    GarbageNotWritten,
    /// An index does not keep its children.
    ChildrenNotKept,
    /// A sync that failed is answered as if it had not.
    FailedSyncIgnored,
    /// No node gets a connection to another one.
    DeafPeers,
}

const PLANTS: [(&str, Plant); 10] = [
    ("lost-write", Plant::LostWrite),
    ("stale-barrier", Plant::StaleBarrier),
    ("lost-object", Plant::LostObject),
    ("skipped-apply", Plant::SkippedApply),
    ("never-read-only", Plant::NeverReadOnly),
    ("dead-follower", Plant::DeadFollower),
    ("garbage-not-written", Plant::GarbageNotWritten),
    ("children-not-kept", Plant::ChildrenNotKept),
    ("failed-sync-ignored", Plant::FailedSyncIgnored),
    ("deaf-peers", Plant::DeafPeers),
];

/// Whether this bug is planted.
pub(crate) fn is_planted(plant: Plant) -> bool {
    static PLANTED: OnceLock<Option<Plant>> = OnceLock::new();
    let read = || {
        let name = std::env::var("ATOLL_SIM_PLANT").ok()?;
        PLANTS.iter().find(|(known, _)| *known == name).map(|(_, plant)| *plant)
    };
    *PLANTED.get_or_init(read) == Some(plant)
}

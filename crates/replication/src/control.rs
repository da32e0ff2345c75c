//! Pausing and resuming a region's fetching: replicated state, so that it outlives restarts.

use std::time::Duration;

use atoll_metadata::{Command, Outcome};
use atoll_registry::{MetadataGroup, RegistryError};
use atoll_types::{RegionId, Revision};

use crate::propose;

/// Pauses a region's fetching: nothing new is started there, and what runs is stopped. Read-through goes on.
pub async fn pause(
    metadata: &dyn MetadataGroup,
    region: RegionId,
    within: Duration,
) -> Result<Revision, RegistryError> {
    set_paused(metadata, region, true, within).await
}

/// Lets a region fetch what it wants again.
pub async fn resume(
    metadata: &dyn MetadataGroup,
    region: RegionId,
    within: Duration,
) -> Result<Revision, RegistryError> {
    set_paused(metadata, region, false, within).await
}

async fn set_paused(
    metadata: &dyn MetadataGroup,
    region: RegionId,
    paused: bool,
    within: Duration,
) -> Result<Revision, RegistryError> {
    let applied = propose::system(metadata, Command::SetReplicationPaused { region, paused }, within).await?;
    match applied.outcome {
        Outcome::Done(_) => Ok(applied.revision),
        Outcome::Rejected(why) => Err(why.into()),
    }
}

//! Writes that the system itself makes.

use std::time::Duration;

use atoll_metadata::Command;
use atoll_registry::{Applied, MetadataGroup, Proposal, ProposeError};
use atoll_types::RequestId;
use tokio::time::Instant;

/// Proposes a command as the system, within a time.
pub(crate) async fn system(
    metadata: &dyn MetadataGroup,
    command: Command,
    within: Duration,
) -> Result<Applied, ProposeError> {
    let proposal = Proposal {
        command,
        request: RequestId::random(),
        seen: metadata.freshness().applied,
        may_be_retry: false,
        actor: String::new(),
        client_address: String::new(),
        deadline: Instant::now() + within,
    };
    metadata.propose(proposal).await
}

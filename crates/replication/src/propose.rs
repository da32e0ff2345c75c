//! Writes that the system itself makes.

use std::time::Duration;

use atoll_metadata::Command;
use atoll_registry::{Applied, MetadataGroup, Proposal, ProposeError};
use atoll_types::{RequestId, Revision};
use tokio::time::Instant;

/// A write of the system's own. Made again, it stays the same request: what it did before is not done twice.
pub(crate) struct SystemRequest {
    command: Command,
    request: RequestId,
    seen: Revision,
}

impl SystemRequest {
    /// A request that was not made yet.
    pub(crate) fn new(metadata: &dyn MetadataGroup, command: Command) -> Self {
        Self { command, request: RequestId::random(), seen: metadata.freshness().applied }
    }

    /// Makes it, within a time; `again` when the outcome of an earlier attempt is not known.
    pub(crate) async fn propose(
        &self,
        metadata: &dyn MetadataGroup,
        again: bool,
        within: Duration,
    ) -> Result<Applied, ProposeError> {
        let proposal = Proposal {
            command: self.command.clone(),
            request: self.request,
            seen: self.seen,
            may_be_retry: again,
            actor: String::new(),
            client_address: String::new(),
            deadline: Instant::now() + within,
        };
        metadata.propose(proposal).await
    }
}

/// Proposes a command as the system, within a time.
pub(crate) async fn system(
    metadata: &dyn MetadataGroup,
    command: Command,
    within: Duration,
) -> Result<Applied, ProposeError> {
    SystemRequest::new(metadata, command).propose(metadata, false, within).await
}

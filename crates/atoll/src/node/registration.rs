//! A node tells the group who and where it is, and which store its region has.
//!
//! It goes on trying for as long as the group cannot be reached: a node that starts while cut off serves pulls
//! meanwhile. A refusal ends the node: it has another region's store, or the name or number of another node.

use std::sync::Arc;
use std::time::Duration;

use atoll_fault::step;
use atoll_metadata::{Command, Outcome, RegisterNode, Rejection, read};
use atoll_registry::{Applied, MetadataGroup, MetadataGroupExt, Proposal, ProposeError};
use atoll_types::{RequestId, StoreId};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long one proposal may take before it is tried anew.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(5);
/// Between attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Where the registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// Not yet.
    Pending,
    /// The group knows this node as it is.
    Done,
    /// The group refuses it, and says why.
    Refused(String),
}

/// Why an attempt did not end the matter.
enum Problem {
    Refused(String),
    Later(String),
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<atoll_metadata::KvError> for Problem {
    fn from(error: atoll_metadata::KvError) -> Self {
        Self::Later(error.to_string())
    }
}

/// Registers a node, however long it takes.
pub(crate) async fn register(
    metadata: Arc<dyn MetadataGroup>,
    node: RegisterNode,
    cluster: read::Cluster,
    done: watch::Sender<Registered>,
) {
    let mut said = String::new();
    loop {
        match attempt(metadata.as_ref(), &node, cluster).await {
            Ok(()) => {
                done.send_replace(Registered::Done);
                return;
            }
            Err(Problem::Refused(why)) => {
                done.send_replace(Registered::Refused(why));
                return;
            }
            Err(Problem::Later(why)) => {
                if why != said {
                    tracing::info!(reason = %why, "this node is not registered yet; it goes on trying");
                    said = why;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn attempt(metadata: &dyn MetadataGroup, node: &RegisterNode, cluster: read::Cluster) -> Result<(), Problem> {
    if metadata.read(|kv| read::cluster(kv))?.is_none() {
        let init = Command::InitCluster { cluster: cluster.id, epoch: cluster.epoch };
        step!("registration.cluster", propose(metadata, init).await)?;
    }
    if metadata.read(|kv| read::region(kv, &node.region))?.is_none() {
        let register = Command::RegisterRegion { region: node.region.clone() };
        step!("registration.region", propose(metadata, register).await)?;
    }
    if let Some(store) = node.store {
        claim_store(metadata, node, store).await?;
    }
    let known = metadata.read(|kv| read::nodes(kv))?;
    if !known.contains(node) {
        let register = Command::RegisterNode(Box::new(node.clone()));
        step!("registration.node", propose(metadata, register).await)?;
    }
    Ok(())
}

/// The first store that a node of the region shows becomes the region's; any other is refused.
async fn claim_store(metadata: &dyn MetadataGroup, node: &RegisterNode, store: StoreId) -> Result<(), Problem> {
    let region = metadata.read(|kv| read::region(kv, &node.region))?;
    match region.and_then(|r| r.store) {
        None => {
            let claim = Command::SetStore { region: node.region.clone(), store, replaces: None };
            step!("registration.store", propose(metadata, claim).await)
        }
        Some(known) if known == store => Ok(()),
        Some(known) => Err(Problem::Refused(format!(
            "region {} has object store {known}, this node has {store}: nodes of one region share one store; mount \
             the region's own, or replace it by an administrator's command",
            node.region
        ))),
    }
}

async fn propose(metadata: &dyn MetadataGroup, command: Command) -> Result<(), Problem> {
    let applied = metadata.propose(system_proposal(metadata, command)).await?;
    match applied {
        Applied { outcome: Outcome::Done(_), .. } => Ok(()),
        Applied { outcome: Outcome::Rejected(why), .. } => Err(refusal(why)),
    }
}

fn refusal(why: Rejection) -> Problem {
    match why {
        Rejection::StoreMismatch(_) | Rejection::NodeConflict(_) | Rejection::WrongCluster => {
            Problem::Refused(why.to_string())
        }
        // Another node was faster, or the state moved on: look again.
        other => Problem::Later(other.to_string()),
    }
}

fn system_proposal(metadata: &dyn MetadataGroup, command: Command) -> Proposal {
    Proposal {
        command,
        request: RequestId::random(),
        seen: metadata.freshness().applied,
        may_be_retry: false,
        actor: String::new(),
        client_address: String::new(),
        deadline: Instant::now() + PROPOSAL_DEADLINE,
    }
}

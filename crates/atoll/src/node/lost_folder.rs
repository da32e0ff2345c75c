//! A node whose data folder is empty, though the group knows it, has lost its disk, or the disk is not mounted.
//!
//! It must not come back as its old self: it has forgotten which votes it gave and which entries it acknowledged, so a
//! majority that counts it could elect a leader that lacks what clients were promised (Raft, section 5.1: votes and log
//! are kept on stable storage). Its peers are asked before it says a word to any of them, so that it says at once why it
//! ends. If none answers, it goes on, and makes no group; the calls of the first peer that runs again end it
//! (`atoll-consensus`, `fence.rs`).

use std::time::Duration;

use anyhow::{Context, bail};
use atoll_consensus::Group;
use atoll_fault::planted;
use atoll_proto::admin::v1::KnowsNodeRequest;
use atoll_proto::admin::v1::admin_client::AdminClient;
use futures::future::join_all;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use crate::config::NodeConfig;

/// How long peers may take to answer. Those that start at the same moment do not answer, and need not.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Refuses to go on if this node remembers nothing of a group that knows it.
pub(crate) async fn refuse(config: &NodeConfig, group: &Group) -> anyhow::Result<()> {
    if group.is_initialized().await.context("looking for the metadata group")? {
        return Ok(());
    }
    let peers = config.cluster.members.iter().filter(|member| member.id != config.node.id);
    let asked = peers.map(|peer| timeout(ANSWER_WAIT, knows(config, &peer.admin)));
    let known = join_all(asked).await.into_iter().any(|answer| answer.unwrap_or(false));
    if known && !planted!("fence_unchecked") {
        bail!("{}", atoll_consensus::lost_folder(&config.node.name, &config.node.data));
    }
    Ok(())
}

/// Whether a peer's group has this node among its registered ones. A peer that does not answer knows nothing.
async fn knows(config: &NodeConfig, admin: &str) -> bool {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{admin}")) else { return false };
    let Ok(channel) = endpoint.connect_timeout(ANSWER_WAIT).connect().await else { return false };
    let ask = KnowsNodeRequest { cluster_id: config.cluster.id.to_string(), node: config.node.id.0 };
    let answer = AdminClient::new(channel).knows_node(ask).await;
    answer.is_ok_and(|answer| answer.into_inner().known)
}

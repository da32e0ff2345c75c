//! Who leads, as far as this node knows.

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use crate::raft::types::PeerNode;
use crate::raft::{Raft, Types};

type Metrics = openraft::alias::WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>;

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This node, or so it believes.
    Here,
    /// A peer, with its entry in the membership.
    Peer(u64, PeerNode),
}

/// Watches who leads.
#[derive(Clone)]
pub(crate) struct Leaders {
    node: u64,
    metrics: Metrics,
}

impl Leaders {
    pub(crate) fn new(raft: &Raft) -> Self {
        Self { node: *raft.node_id(), metrics: raft.server_metrics() }
    }

    /// Who leads now, as far as this node knows.
    pub(crate) fn current(&self) -> Option<Leader> {
        let metrics = self.metrics.borrow_watched();
        match metrics.current_leader? {
            leader if leader == self.node => Some(Leader::Here),
            leader => Some(Leader::Peer(leader, metrics.membership_config.get_node(&leader)?.clone())),
        }
    }

    /// Waits until somebody leads; `None` when nobody did until the deadline.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Option<Leader> {
        loop {
            if let Some(leader) = self.current() {
                return Some(leader);
            }
            match tokio::time::timeout_at(deadline, self.metrics.changed()).await {
                Ok(Ok(())) => {}
                _ => return None,
            }
        }
    }

    /// Waits until somebody else leads, or nobody. Never returns once Raft has stopped.
    pub(crate) async fn changed_from(&mut self, leader: &Leader) {
        while self.current().as_ref() == Some(leader) {
            if self.metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

//! All nodes of other regions, found in replicated state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use atoll_metadata::{KvError, KvRead, NodeRole, RegisterNode, read};
use atoll_registry::{MetadataGroup, MetadataGroupExt};
use atoll_telemetry::Metrics;
use atoll_types::{Digest, NodeId, RegionId};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::peer::Peer;
use super::suspects::Suspects;
use crate::{LocalNode, PeerOptions};

/// A blob and who can be asked for it, nearest first.
pub(crate) struct Located {
    pub(crate) size: u64,
    /// Regions that hold it, without this one.
    pub(crate) regions: Vec<RegionId>,
    pub(crate) peers: Vec<Arc<Peer>>,
    /// Whether this region holds it.
    pub(crate) here: bool,
}

/// The other regions that answer.
pub(crate) struct Reach {
    answering: HashSet<RegionId>,
}

impl Reach {
    /// Whether nobody will probably send a blob: no region that has it answers, or its last copy is suspect.
    pub(crate) fn lacks(&self, kv: &dyn KvRead, digest: &Digest) -> Result<bool, KvError> {
        let Some(blob) = read::blob(kv, digest)? else { return Ok(true) };
        let is_within = blob.copies.iter().any(|(region, _)| self.answering.contains(region));
        Ok(!is_within || blob.suspect)
    }
}

/// The nodes of other regions as sources of blobs; each is connected to when it is needed.
pub(crate) struct PeerSources {
    pub(crate) local: LocalNode,
    pub(crate) options: PeerOptions,
    pub(crate) metadata: Arc<dyn MetadataGroup>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) suspects: Suspects,
    peers: Mutex<HashMap<NodeId, Arc<Peer>>>,
}

impl PeerSources {
    /// Sources as the state that is applied here names them.
    pub(crate) fn new(
        local: LocalNode,
        options: PeerOptions,
        metadata: Arc<dyn MetadataGroup>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { local, options, metadata, metrics, suspects: Suspects::default(), peers: Mutex::default() })
    }

    /// Where a blob is; `None` when no such blob is known here.
    pub(crate) fn locate(&self, digest: &Digest) -> Result<Option<Located>, KvError> {
        self.metadata.read(|kv| {
            let Some(blob) = read::blob(kv, digest)? else { return Ok(None) };
            let here = blob.copies.iter().any(|(region, _)| *region == self.local.region);
            let regions = blob.copies.into_iter().map(|(region, _)| region).filter(|r| *r != self.local.region);
            let regions: Vec<_> = regions.collect();
            let peers = self.nearest(kv, &regions)?;
            Ok(Some(Located { size: blob.size, regions, peers, here }))
        })
    }

    fn nearest(&self, kv: &dyn KvRead, regions: &[RegionId]) -> Result<Vec<Arc<Peer>>, KvError> {
        let nodes = read::nodes(kv)?;
        let serving = nodes.iter().filter(|n| n.role != NodeRole::Witness && regions.contains(&n.region));
        let mut peers: Vec<_> = serving.filter_map(|n| self.peer(n)).collect();
        peers.sort_by_cached_key(|p| p.rank(self.options.unhealthy_for));
        Ok(peers)
    }

    /// Which regions answer at the moment, as far as is known.
    pub(crate) fn reach(&self, kv: &dyn KvRead) -> Result<Reach, KvError> {
        let peers = self.all(kv)?;
        let answer = peers.iter().filter(|peer| !peer.rank(self.options.unhealthy_for).0);
        let answering = answer.map(|peer| peer.region.clone()).collect();
        Ok(Reach { answering })
    }

    fn peer(&self, node: &RegisterNode) -> Option<Arc<Peer>> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(&node.node).filter(|p| p.address == node.grpc_address && p.region == node.region)
        {
            return Some(peer.clone());
        }
        match Peer::new(node.node, node.region.clone(), &node.grpc_address, &self.options) {
            Ok(peer) => {
                let peer = Arc::new(peer);
                peers.insert(node.node, peer.clone());
                Some(peer)
            }
            Err(error) => {
                tracing::warn!(node = %node.name, address = %node.grpc_address, %error, "a node's gRPC address is unusable; correct it in the node's configuration");
                None
            }
        }
    }

    /// Measures the way to every node of every other region until it is stopped, and forgets nodes that are gone.
    pub(crate) async fn measure(&self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(self.options.ping_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let peers = match self.metadata.read(|kv| self.all(kv)) {
                Ok(peers) => peers,
                Err(error) => {
                    tracing::warn!(%error, "the nodes of other regions cannot be read");
                    continue;
                }
            };
            let limit = self.options.answer_timeout;
            let mut pings: FuturesUnordered<_> = peers.iter().map(|p| p.ping(self.local.cluster, limit)).collect();
            let all = async { while pings.next().await.is_some() {} };
            stop.run_until_cancelled(all).await;
        }
    }

    fn all(&self, kv: &dyn KvRead) -> Result<Vec<Arc<Peer>>, KvError> {
        let nodes = read::nodes(kv)?;
        self.peers.lock().retain(|id, _| nodes.iter().any(|n| n.node == *id));
        let others = nodes.iter().filter(|n| n.role != NodeRole::Witness && n.region != self.local.region);
        Ok(others.filter_map(|n| self.peer(n)).collect())
    }
}

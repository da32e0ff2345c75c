//! A run of blocks from whatever source has them: when one fails, the next goes on at the same offset.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_metadata::KvError;
use atoll_types::{Digest, NodeId, RegionId};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::blocks::{Ask, Block, BlockStream, SourceError};
use super::peer::Peer;
use super::peers::PeerSources;
use super::purpose::Purpose;

/// How long and how often sources are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How often all sources are tried without a block in between.
    pub(crate) rounds: u32,
}

impl Patience {
    /// For a client that has no status yet: it can go elsewhere.
    pub(crate) const START: Self = Self { rounds: 1 };
    /// For a client that is in the middle of a body: it can only start again.
    pub(crate) const MIDDLE: Self = Self { rounds: 6 };
}

/// Longest wait between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why no source sent what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error("blob {0} is not known")]
    Unknown(Digest),
    #[error("no region that holds blob {digest} sends it ({}): {}", list(regions), detail)]
    Unreachable { digest: Digest, regions: Vec<RegionId>, detail: String },
    #[error(transparent)]
    View(#[from] KvError),
}

/// The wait after so many failures.
fn pause(failures: u32) -> Duration {
    (Duration::from_millis(100) * (1 << failures.min(8))).min(PAUSE_MAX)
}

fn list(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
}

/// A run of blocks.
pub(crate) struct Transfer {
    sources: Arc<PeerSources>,
    digest: Digest,
    size: u64,
    next: u64,
    end: u64,
    patience: Patience,
    purpose: Purpose,
    current: Option<BlockStream>,
    /// Failures since the last block.
    failures: u32,
    round: u32,
    /// As of the last time that sources were looked for.
    regions: Vec<RegionId>,
    sources_seen: u32,
    last_error: String,
}

impl Transfer {
    /// Of a blob, a range from a block's border to one or to the blob's end; nothing is asked for yet.
    pub(crate) fn new(
        sources: Arc<PeerSources>,
        digest: Digest,
        size: u64,
        range: Range<u64>,
        patience: Patience,
        purpose: Purpose,
    ) -> Self {
        Self {
            sources,
            digest,
            size,
            next: range.start,
            end: range.end,
            patience,
            purpose,
            current: None,
            failures: 0,
            round: 0,
            regions: Vec::new(),
            sources_seen: 0,
            last_error: String::new(),
        }
    }

    /// From now on it is tried so long.
    pub(crate) fn be_patient(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// The next block and who sent it; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<(Block, NodeId)>, TransferError> {
        while self.next < self.end {
            if self.current.is_none() {
                self.open().await?;
            }
            let Some(stream) = self.current.as_mut() else { continue };
            match stream.next().await {
                Ok(Some(block)) => {
                    let peer = stream.peer().clone();
                    self.took(&block, &peer);
                    return Ok(Some((block, peer.node)));
                }
                Ok(None) => self.current = None,
                Err(error) => {
                    let node = stream.peer().node;
                    self.lost(node, &error).await?;
                }
            }
        }
        Ok(None)
    }

    fn took(&mut self, block: &Block, peer: &Peer) {
        self.sources.metrics.record_fetched_bytes(peer.region.as_str(), block.data.len() as u64);
        (self.next, self.failures, self.round) = (block.end(), 0, 0);
    }

    /// Notes a stream that broke. One that answers and then sends nothing right counts as much as one that does not
    /// answer: every source gets its turn, and then it ends.
    async fn lost(&mut self, node: NodeId, error: &SourceError) -> Result<(), TransferError> {
        tracing::info!(digest = %self.digest, offset = self.next, %error, "a source failed; the next one goes on");
        self.current = None;
        self.failures += 1;
        self.last_error = error.to_string();
        self.suspect(node, error);
        if self.failures >= self.patience.rounds + self.sources_seen {
            return Err(self.unreachable());
        }
        if self.failures > self.sources_seen {
            sleep(pause(self.failures - self.sources_seen)).await;
        }
        Ok(())
    }

    fn suspect(&self, node: NodeId, error: &SourceError) {
        if error.is_of_the_copy() {
            self.sources.suspects.bad_copy(self.digest, node);
        }
    }

    fn unreachable(&mut self) -> TransferError {
        let (digest, regions) = (self.digest, std::mem::take(&mut self.regions));
        TransferError::Unreachable { digest, regions, detail: std::mem::take(&mut self.last_error) }
    }

    /// Opens a stream at the current offset, in as many rounds as patience allows.
    async fn open(&mut self) -> Result<(), TransferError> {
        loop {
            let located = self.sources.locate(&self.digest)?.ok_or(TransferError::Unknown(self.digest))?;
            self.regions = located.regions;
            self.sources_seen = u32::try_from(located.peers.len()).unwrap_or(u32::MAX / 2);
            let peers = self.acceptable(located.peers);
            match self.open_nearest(peers).await {
                Ok(stream) => {
                    self.current = Some(stream);
                    return Ok(());
                }
                Err(detail) => self.last_error = detail,
            }
            self.round += 1;
            if self.round >= self.patience.rounds {
                return Err(self.unreachable());
            }
            sleep(pause(self.round)).await;
        }
    }

    fn acceptable(&self, peers: Vec<Arc<Peer>>) -> Vec<Arc<Peer>> {
        let suspects = self.sources.suspects.of(&self.digest);
        let (bad, mut good): (Vec<_>, Vec<_>) = peers.into_iter().partition(|p| suspects.contains(&p.node));
        good.extend(bad);
        good
    }

    /// The nearest source that sends a block: each further one is asked when those before it failed or are slow.
    async fn open_nearest(&self, peers: Vec<Arc<Peer>>) -> Result<BlockStream, String> {
        if peers.is_empty() {
            return Err("no other region has a copy on a node that serves".into());
        }
        let (mut waiting, mut opening, mut errors) = (peers.into_iter(), FuturesUnordered::new(), Vec::new());
        opening.extend(waiting.next().map(|p| self.ask_one(p)));
        loop {
            tokio::select! {
                Some(opened) = opening.next() => match opened {
                    Ok(stream) => return Ok(stream),
                    Err(error) => {
                        errors.push(error.to_string());
                        opening.extend(waiting.next().map(|p| self.ask_one(p)));
                    }
                },
                () = sleep(self.sources.options.hedge_after), if waiting.len() > 0 => {
                    opening.extend(waiting.next().map(|p| self.ask_one(p)));
                }
                else => return Err(errors.join("; ")),
            }
        }
    }

    async fn ask_one(&self, peer: Arc<Peer>) -> Result<BlockStream, SourceError> {
        let node = peer.node;
        BlockStream::open(peer, self.ask()).await.inspect_err(|error| self.suspect(node, error))
    }

    /// Waits grow with every failure since the last block, so that a slow link gets there too.
    fn ask(&self) -> Ask {
        let options = &self.sources.options;
        let factor = 1 << (self.failures + self.round).min(4);
        Ask {
            cluster: self.sources.local.cluster,
            digest: self.digest,
            size: self.size,
            range: self.next..self.end,
            purpose: self.purpose,
            answer_timeout: options.answer_timeout * factor,
            stall_timeout: options.stall_timeout * factor,
        }
    }
}

//! Blocks of a blob as one source sends them, each checked on arrival.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use atoll_proto::replication::{BLOCK_BYTES, ClusterIdentity, FetchBlob, v1};
use atoll_types::Digest;
use bytes::Bytes;
use tonic::{Code, Streaming};

use super::peer::Peer;
use super::purpose::Purpose;

/// Bytes of a blob from a block's beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

impl Block {
    /// Where the next one begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// Why a source did not send what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{peer} sent nothing for {} ms", .after.as_millis())]
    Silent { peer: String, after: Duration },
    #[error("{peer} has no stream to spare: {detail}")]
    Busy { peer: String, detail: String },
    #[error("{peer} failed: {detail}")]
    Failed { peer: String, detail: String },
    #[error("{peer} has no usable copy: {detail}")]
    NoCopy { peer: String, detail: String },
    #[error("{peer} sent what is not right: {detail}")]
    Corrupt { peer: String, detail: String },
}

impl SourceError {
    /// Whether this copy is in trouble, and not the whole source.
    pub(crate) fn is_of_the_copy(&self) -> bool {
        matches!(self, Self::NoCopy { .. } | Self::Corrupt { .. })
    }

    /// Whether the whole source is in trouble.
    fn is_of_the_peer(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Failed { .. })
    }
}

/// What to ask a source for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) cluster: ClusterIdentity,
    pub(crate) digest: Digest,
    /// Of the whole blob, in bytes.
    pub(crate) size: u64,
    /// Begins at a block's border and ends at one, or at the blob's end.
    pub(crate) range: Range<u64>,
    pub(crate) purpose: Purpose,
    pub(crate) answer_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

/// A stream from one source.
pub(crate) struct BlockStream {
    peer: Arc<Peer>,
    stream: Streaming<v1::Block>,
    size: u64,
    next: u64,
    end: u64,
    purpose: Purpose,
    stall_timeout: Duration,
}

impl BlockStream {
    /// Asks, and waits until the source says that it has the blob. Its first block may take longer: over a slow link
    /// it is on its way for a while.
    pub(crate) async fn open(peer: Arc<Peer>, ask: Ask) -> Result<Self, SourceError> {
        let limit = ask.answer_timeout;
        let opened = peer.way(ask.purpose).while_alive(limit, Self::start(&peer, &ask)).await;
        let opened = opened.unwrap_or_else(|| Err(SourceError::Silent { peer: peer.to_string(), after: limit }));
        match &opened {
            Ok(_) => peer.answered(),
            Err(error) if error.is_of_the_peer() => peer.failed(),
            Err(_) => {}
        }
        opened
    }

    async fn start(peer: &Arc<Peer>, ask: &Ask) -> Result<Self, SourceError> {
        let request = FetchBlob {
            cluster: ask.cluster,
            digest: ask.digest,
            object: None,
            offset: ask.range.start,
            length: Some(ask.range.end - ask.range.start),
            background: ask.purpose == Purpose::Background,
        };
        Ok(Self {
            stream: peer.fetch(request.into(), ask.purpose).await.map_err(|status| of_status(peer, &status))?,
            peer: peer.clone(),
            size: ask.size,
            next: ask.range.start,
            end: ask.range.end,
            purpose: ask.purpose,
            stall_timeout: ask.stall_timeout,
        })
    }

    /// Who sends.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The next block; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Block>, SourceError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let limit = self.stall_timeout;
        let peer = self.peer.clone();
        let received = peer.way(self.purpose).while_alive(limit, self.receive()).await;
        let received = received.unwrap_or_else(|| Err(SourceError::Silent { peer: peer.to_string(), after: limit }));
        match received {
            Ok(block) => {
                // Its pings may stand behind its blocks.
                self.peer.answered();
                self.peer.pace(block.data.len()).await;
                Ok(Some(block))
            }
            Err(error) => {
                if error.is_of_the_peer() {
                    self.peer.failed();
                }
                Err(error)
            }
        }
    }

    async fn receive(&mut self) -> Result<Block, SourceError> {
        match self.stream.message().await {
            Ok(Some(block)) => self.check(block),
            Ok(None) => {
                Err(SourceError::Failed { peer: self.peer.to_string(), detail: "the stream ended early".into() })
            }
            Err(status) => Err(of_status(&self.peer, &status)),
        }
    }

    fn check(&mut self, block: v1::Block) -> Result<Block, SourceError> {
        let want = BLOCK_BYTES.min(self.size - self.next);
        let detail = if block.offset != self.next || block.data.len() as u64 != want {
            format!("{} bytes at {}, not {want} at {}", block.data.len(), block.offset, self.next)
        } else if xxhash_rust::xxh3::xxh3_64(&block.data) != block.xxh3 {
            format!("the block at {} does not match its checksum", block.offset)
        } else {
            self.next += want;
            return Ok(Block { offset: block.offset, data: block.data });
        };
        Err(SourceError::Corrupt { peer: self.peer.to_string(), detail })
    }
}

fn of_status(peer: &Peer, status: &tonic::Status) -> SourceError {
    let (peer, detail) = (peer.to_string(), format!("{:?}: {}", status.code(), status.message()));
    match status.code() {
        Code::NotFound | Code::DataLoss | Code::OutOfRange => SourceError::NoCopy { peer, detail },
        Code::ResourceExhausted => SourceError::Busy { peer, detail },
        _ => SourceError::Failed { peer, detail },
    }
}

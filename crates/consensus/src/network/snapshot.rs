//! Sending a snapshot: what the peer lacks of it, chunk by chunk.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use atoll_proto::raft::v1 as wire;
use atoll_proto::raft::v1::raft_client::RaftClient;
use atoll_storage::Checkpoint;
use futures::{Stream, stream};
use openraft::errors::{StreamingError, Unreachable};
use openraft::network::RPCTypes;
use openraft::raft::SnapshotResponse;
use parking_lot::Mutex;

use super::client::{Link, unreachable};
use super::peers::PeerChannel;
use crate::raft::types::{SnapshotData, Vote};
use crate::raft::{Types, blocking, codec};

/// How often files that did not verify at the peer are sent again before openraft is told.
const ROUNDS_MAX: usize = 3;
/// Bytes of one chunk. It has to come within the time after which a transfer counts as stalled, over a slow link that
/// blobs share.
const CHUNK_BYTES_MAX: usize = 128 << 10;

type Sent<T> = Result<T, StreamingError<Types>>;

/// Sends a snapshot, resuming where an earlier transfer ended, and waits until the peer has installed it.
pub(super) async fn send(
    raft: RaftClient<PeerChannel>,
    vote: Vote,
    snapshot: SnapshotData,
    link: Link,
    timeout: Duration,
) -> Sent<SnapshotResponse<Types>> {
    let transfer = Transfer { raft, vote, snapshot };
    match tokio::time::timeout(timeout, transfer.run()).await {
        Ok(sent) => sent,
        Err(_) => Err(link.timed_out(RPCTypes::InstallSnapshot, timeout).into()),
    }
}

struct Transfer {
    raft: RaftClient<PeerChannel>,
    vote: Vote,
    snapshot: SnapshotData,
}

impl Transfer {
    async fn run(mut self) -> Sent<SnapshotResponse<Types>> {
        for _ in 0..ROUNDS_MAX {
            if self.snapshot.is_damaged() {
                break;
            }
            let begun = self.begin().await?;
            if begun.higher_vote.is_some() {
                return Ok(SnapshotResponse::new(vote_of(begun.higher_vote)?));
            }
            let sent = self.send_missing(begun.files).await?;
            if sent.incomplete.is_empty() {
                return Ok(SnapshotResponse::new(vote_of(sent.vote)?));
            }
            tracing::warn!(files = ?sent.incomplete, "files of a snapshot did not verify at the peer; sending them again");
            // At once: over a slow link a second round may never come to its end.
            self.look_at_ours().await;
        }
        Err(Unreachable::from_string("the peer could not verify what was sent").into())
    }

    /// Whether it is this node's snapshot that is damaged: then a new one is made, and sent when openraft tries again.
    async fn look_at_ours(&self) {
        let snapshot = self.snapshot.clone();
        if let Err(error) = blocking(move || snapshot.verify()).await {
            tracing::error!(%error, "a snapshot of this node is damaged on its disk; a new one takes its place");
        }
    }

    async fn begin(&mut self) -> Sent<wire::BeginSnapshotResponse> {
        let request = wire::BeginSnapshotRequest {
            vote: Some(codec::vote_to_wire(&self.vote)),
            manifest: self.snapshot.manifest_bytes(),
        };
        let begun = self.raft.begin_snapshot(request).await.map_err(|status| unreachable(&status))?;
        Ok(begun.into_inner())
    }

    async fn send_missing(&mut self, files: Vec<wire::FileProgress>) -> Sent<wire::SendSnapshotResponse> {
        let start = wire::SnapshotStart {
            vote: Some(codec::vote_to_wire(&self.vote)),
            manifest: self.snapshot.manifest_bytes(),
        };
        let failed = Arc::new(Mutex::new(None));
        let chunks = chunks(self.snapshot.clone(), start, files, failed.clone());
        let sent = self.raft.send_snapshot(chunks).await;
        let error: Option<io::Error> = failed.lock().take();
        if let Some(error) = error {
            self.look_at_ours().await;
            return Err(unreachable(&error).into());
        }
        sent.map(tonic::Response::into_inner).map_err(|status| unreachable(&status).into())
    }
}

fn vote_of(vote: Option<wire::Vote>) -> Sent<Vote> {
    codec::vote_of(vote).map_err(|e| unreachable(&e).into())
}

/// Where a transfer is.
struct Cursor {
    snapshot: Arc<Checkpoint>,
    start: Option<wire::SnapshotStart>,
    files: std::vec::IntoIter<wire::FileProgress>,
    file: Option<wire::FileProgress>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

fn chunks(
    snapshot: Arc<Checkpoint>,
    start: wire::SnapshotStart,
    files: Vec<wire::FileProgress>,
    failed: Arc<Mutex<Option<io::Error>>>,
) -> impl Stream<Item = wire::SnapshotChunk> + Send + 'static {
    let cursor = Cursor { snapshot, start: Some(start), files: files.into_iter(), file: None, failed };
    stream::unfold(cursor, |mut cursor| async move {
        let chunk = cursor.next().await?;
        Some((chunk, cursor))
    })
}

impl Cursor {
    async fn next(&mut self) -> Option<wire::SnapshotChunk> {
        if let Some(start) = self.start.take() {
            return Some(wire::SnapshotChunk { start: Some(start), ..Default::default() });
        }
        while self.file.as_ref().is_none_or(|file| file.received >= file.size) {
            self.file = Some(self.files.next()?);
        }
        match self.read().await {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                *self.failed.lock() = Some(error);
                None
            }
        }
    }

    async fn read(&mut self) -> io::Result<wire::SnapshotChunk> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no file is being sent"))?;
        let (snapshot, name, offset) = (self.snapshot.clone(), file.name.clone(), file.received);
        let chunk = blocking(move || snapshot.read_chunk(&name, offset, CHUNK_BYTES_MAX)).await?;
        if chunk.data.is_empty() {
            return Err(io::Error::other(format!("the peer expects more of {} than there is", file.name)));
        }
        file.received += chunk.data.len() as u64;
        Ok(wire::SnapshotChunk { start: None, file: file.name.clone(), offset, data: chunk.data, crc: chunk.crc })
    }
}

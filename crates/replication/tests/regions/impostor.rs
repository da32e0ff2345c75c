//! A source that sends what it should not.

use std::pin::Pin;

use atoll_proto::replication::v1::blobs_server::{Blobs, BlobsServer};
use atoll_proto::replication::v1::{Block, FetchRequest, PingRequest, PingResponse};
use atoll_proto::replication::{BLOCK_BYTES, FetchBlob};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};
use xxhash_rust::xxh3::xxh3_64;

/// What is wrong with what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The blob's second block has a bit flipped, and the checksum of the right bytes.
    FlippedBit,
    /// All bytes are others, with checksums that match them.
    OtherBytes,
    /// Blocks are not those that were asked for.
    Shifted,
}

pub(crate) struct Impostor {
    bytes: Bytes,
    lie: Lie,
}

impl Impostor {
    pub(crate) fn service(bytes: Bytes, lie: Lie) -> BlobsServer<Self> {
        BlobsServer::new(Self { bytes, lie })
    }

    fn block(&self, offset: u64) -> Block {
        let end = (offset + BLOCK_BYTES).min(self.bytes.len() as u64);
        let data = self.bytes.slice(offset as usize..end as usize);
        let (mut lied, honest) = (data.to_vec(), xxh3_64(&data));
        match self.lie {
            Lie::FlippedBit if offset == BLOCK_BYTES => {
                lied[0] ^= 1;
                Block { offset, data: lied.into(), xxh3: honest }
            }
            Lie::FlippedBit => Block { offset, data, xxh3: honest },
            Lie::OtherBytes => {
                lied.iter_mut().for_each(|b| *b ^= 0x55);
                Block { offset, xxh3: xxh3_64(&lied), data: lied.into() }
            }
            Lie::Shifted => Block { offset: offset + BLOCK_BYTES, data, xxh3: honest },
        }
    }
}

#[tonic::async_trait]
impl Blobs for Impostor {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<Block, Status>> + Send>>;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let fetch = FetchBlob::try_from(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let end = fetch.length.map_or(self.bytes.len() as u64, |n| fetch.offset + n);
        let offsets = (fetch.offset..end).step_by(BLOCK_BYTES as usize);
        let blocks: Vec<_> = offsets.map(|offset| Ok(self.block(offset))).collect();
        Ok(Response::new(stream::iter(blocks).boxed()))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {}))
    }
}

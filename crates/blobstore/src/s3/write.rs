//! An object being written into a bucket.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_types::ObjectName;
use bytes::Bytes;
use rand::RngExt as _;

use super::Shared;
use super::api::{Metadata, Put};
use super::error::{Cause, Failure};
use super::upload::Upload;
use crate::{BlockChecksums, Footprint, ObjectWriter, StoreError, footer};

/// How much may stay gathered while the writer is parked, in bytes: not worth an object.
const PARKED_BYTES_MAX: usize = 4 << 10;
/// What proves that an object is this writer's, whatever became of the answer that said so.
pub(super) const TOKEN: &str = "atoll-token";
/// The footer of a small object, in hexadecimal digits; see `footer`.
pub(super) const BLOCKS: &str = "atoll-blocks";
/// Longest of these, in bytes. All metadata of an object may take 2 KiB, names included.
const BLOCKS_BYTES_MAX: u64 = 1_600;
/// How often an object is looked for whose putting has an unknown outcome, and the first wait in between.
const LOOKS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Gathers bytes into parts and sends several at once. What fits into one part takes a single request.
pub(super) struct S3Writer {
    shared: Arc<Shared>,
    name: ObjectName,
    token: String,
    written: u64,
    /// `None` once it failed or has ended.
    upload: Option<Upload>,
    failed: Option<StoreError>,
}

impl S3Writer {
    pub(super) fn new(shared: Arc<Shared>, name: ObjectName) -> Self {
        let token = const_hex::encode(rand::rng().random::<[u8; 16]>());
        let metadata = Metadata::from([(TOKEN.to_owned(), token.clone())]);
        let upload = Upload::new(shared.clone(), name, metadata);
        Self { shared, name, token, written: 0, upload: Some(upload), failed: None }
    }

    fn upload(&mut self) -> Result<&mut Upload, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let ended = || StoreError::Other(format!("the writing of {} has ended", self.name));
        self.upload.as_mut().ok_or_else(ended)
    }

    /// Remembers an error: what was written is given up.
    fn settle<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.give_up();
        }
        result
    }

    fn give_up(&mut self) {
        if let Some(upload) = self.upload.take().filter(|upload| !upload.is_clean()) {
            self.shared.bin.throw(upload.into_litter());
        }
    }

    async fn complete_small(&mut self, footer: &[u8]) -> Result<(), StoreError> {
        let body = self.upload()?.take_small().await?;
        let metadata =
            Metadata::from([(TOKEN.to_owned(), self.token.clone()), (BLOCKS.to_owned(), const_hex::encode(footer))]);
        let put =
            self.shared.api.put(&self.shared.keys.object(&self.name), body.bytes.clone(), metadata, Put::New).await;
        match put {
            Ok(()) => Ok(()),
            Err(failure) => self.judge(failure).await,
        }
    }

    async fn complete_large(&mut self, footer: Vec<u8>) -> Result<(), StoreError> {
        self.upload()?.send_last().await?;
        // Before the object: one that is there has its checksums. Their key is this writer's alone.
        let key = self.shared.keys.checksums(&self.name, &self.token);
        let put = self.shared.api.put(&key, footer.into(), Metadata::new(), Put::Aside).await;
        put.map_err(Failure::into_store_error)?;
        // A success is proved as well: the SDK repeats a request whose answer was lost, and what some servers say to a
        // repeated completion is not about this upload.
        match self.upload()?.complete().await {
            Ok(()) => self.judge(self.not_there()).await?,
            Err(failure) => self.judge(failure).await?,
        }
        self.upload()?.completed();
        Ok(())
    }

    fn not_there(&self) -> Failure {
        let text = format!("the upload of {} was completed, and there is no such object", self.name);
        Failure { cause: Cause::Transient, maybe_done: true, text }
    }

    /// What a put has come to whose answer does not say: an object with this writer's token and size is its own.
    async fn judge(&self, failure: Failure) -> Result<(), StoreError> {
        let mut wait = FIRST_WAIT;
        for look in 1..=LOOKS {
            match self.shared.api.head(&self.shared.keys.object(&self.name)).await {
                Ok(found) if found.metadata.get(TOKEN) == Some(&self.token) && found.size == self.written => {
                    return Ok(());
                }
                Ok(found) if found.metadata.get(TOKEN) != Some(&self.token) => {
                    return Err(StoreError::Other(format!("{} exists already; it is not overwritten", self.name)));
                }
                Ok(found) => {
                    let (have, want) = (found.size, self.written);
                    return Err(StoreError::Other(format!("{} has {have} bytes, and {want} were written", self.name)));
                }
                Err(_) if !failure.maybe_done => break,
                Err(_) if look < LOOKS => tokio::time::sleep(wait).await,
                Err(_) => {}
            }
            wait *= 2;
        }
        Err(failure.into_store_error())
    }
}

#[async_trait]
impl ObjectWriter for S3Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        // Taken before anything is awaited: a caller that is cancelled has handed over all or nothing.
        self.upload()?.push(&bytes);
        self.written += bytes.len() as u64;
        let gone_on = self.upload()?.go_on().await;
        self.settle(gone_on)
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn park(&mut self) -> Result<(), StoreError> {
        let handed_over = self.upload()?.hand_over(PARKED_BYTES_MAX).await;
        self.settle(handed_over)
    }

    fn footprint(&self) -> Footprint {
        let held = self.upload.as_ref().map_or(0, Upload::memory_bytes);
        Footprint { memory_bytes: held + size_of::<Self>(), descriptors: 0 }
    }

    async fn complete(mut self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError> {
        checksums.check_count(&self.name, self.written)?;
        let footer = footer::encode(&self.name, self.written, &checksums);
        // What is sent in one request holds all of the object in memory; more of it than a part may be there only after a
        // call that was dropped.
        let fits = footer.len() as u64 * 2 <= BLOCKS_BYTES_MAX && self.written <= self.shared.options.part_bytes as u64;
        match self.upload()?.has_parts() || !fits {
            false => self.complete_small(&footer).await,
            true => self.complete_large(footer).await,
        }
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StoreError> {
        match self.upload.take().filter(|upload| !upload.is_clean()) {
            Some(upload) => self.shared.bin.remove(upload.into_litter()).await.map_err(Failure::into_store_error),
            None => Ok(()),
        }
    }
}

impl Drop for S3Writer {
    fn drop(&mut self) {
        self.give_up();
    }
}

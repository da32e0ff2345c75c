//! A writer that is unreliable on purpose.

use std::sync::Arc;

use async_trait::async_trait;
use atoll_types::ObjectName;
use bytes::Bytes;

use super::plan::{Fault, Operation};
use super::{Change, Shared, answer, flip_in};
use crate::{BlockChecksums, Footprint, ObjectWriter, StoreError};

pub(super) struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    shared: Arc<Shared>,
    name: ObjectName,
    failed: Option<StoreError>,
}

impl FaultyWriter {
    pub(super) fn new(inner: Box<dyn ObjectWriter>, shared: Arc<Shared>, name: ObjectName) -> Self {
        Self { inner, shared, name, failed: None }
    }

    /// A writer that failed goes on failing.
    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    async fn try_write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let bytes = match self.shared.before(Operation::Write).await? {
            Some(strike) if strike.fault() == Fault::FlipBit && !bytes.is_empty() => {
                let entropy = strike.entropy();
                strike.fired("a bad byte was written");
                flip_in(&bytes, entropy % bytes.len() as u64, (entropy >> 32) as u8 % 8)
            }
            _ => bytes,
        };
        self.inner.write(bytes).await
    }
}

#[async_trait]
impl ObjectWriter for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.check()?;
        let result = self.try_write(bytes).await;
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn written(&self) -> u64 {
        self.inner.written()
    }

    async fn park(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let result = self.inner.park().await;
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn footprint(&self) -> Footprint {
        self.inner.footprint()
    }

    async fn complete(self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError> {
        self.check()?;
        let strike = self.shared.before(Operation::Complete).await?;
        self.inner.complete(checksums).await?;
        self.shared.remember(Change::Completed(self.name));
        answer(strike, ())
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        let strike = self.shared.before(Operation::Abort).await?;
        self.inner.abort().await?;
        answer(strike, ())
    }
}

//! An object being written into a folder.

use std::convert::identity;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_fault::step_io;
use atoll_types::ObjectName;
use bytes::Bytes;
use tokio::runtime::Handle;

use super::Shared;
use super::error::store_error;
use super::pool::{Started, within};
use super::temp::TempFile;
use crate::{BlockChecksums, Footprint, ObjectWriter, StoreError, footer};

/// How much is gathered before it is written, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How much may stay gathered while the writer is parked, in bytes: not worth a file.
const PARKED_BYTES_MAX: usize = 4 << 10;

/// Gathers bytes and writes them in chunks, one of which is under way while the next is gathered. What fits into one
/// chunk makes no file before it is completed, and then takes a single blocking call.
pub(super) struct FsWriter {
    shared: Arc<Shared>,
    name: ObjectName,
    gathered: Vec<u8>,
    written: u64,
    state: State,
}

enum State {
    /// No file yet, or one that nothing is being written to.
    Idle(Option<TempFile>),
    /// A chunk is on its way.
    Busy(Started<TempFile>),
    /// It failed; the file is gone, for what it holds is unknown.
    Failed(StoreError),
}

impl FsWriter {
    pub(super) fn new(shared: Arc<Shared>, name: ObjectName) -> Self {
        Self { shared, name, gathered: Vec::new(), written: 0, state: State::Idle(None) }
    }

    /// Waits for the chunk that is on its way.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if let State::Busy(chunk) = &mut self.state {
            let settled = self.shared.pool.wait(chunk).await;
            self.take_settled(settled);
        }
        self.check()
    }

    fn take_settled(&mut self, settled: Result<TempFile, StoreError>) {
        self.state = match settled {
            Ok(file) => State::Idle(Some(file)),
            Err(error) => State::Failed(error),
        };
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Sends what was gathered on its way. Only after [`FsWriter::settle`].
    fn start_chunk(&mut self) {
        let State::Idle(file) = &mut self.state else { return };
        let (file, chunk) = (file.take(), std::mem::take(&mut self.gathered));
        let (shared, name) = (self.shared.clone(), self.name);
        self.state = State::Busy(self.shared.pool.start(move || append(&shared, &name, file, &chunk)));
    }

    /// Takes the file, which must not be written to any more.
    fn take_file(&mut self) -> Option<TempFile> {
        match std::mem::replace(&mut self.state, State::Idle(None)) {
            State::Idle(file) => file,
            State::Busy(_) | State::Failed(_) => None,
        }
    }
}

#[async_trait]
impl ObjectWriter for FsWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        // Taken before anything is awaited: a caller that is cancelled has still handed over all or nothing.
        self.gathered.extend_from_slice(&bytes);
        self.written += bytes.len() as u64;
        if self.gathered.len() >= CHUNK_BYTES {
            self.settle().await?;
            self.start_chunk();
        }
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn park(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        let is_open = matches!(&self.state, State::Idle(Some(file)) if file.is_open());
        if self.gathered.len() > PARKED_BYTES_MAX || is_open {
            let (file, chunk) = (self.take_file(), std::mem::take(&mut self.gathered));
            let (shared, name) = (self.shared.clone(), self.name);
            let closed = self.shared.pool.start(move || {
                let mut file = append(&shared, &name, file, &chunk)?;
                file.close().map_err(|e| store_error(&format!("writing {name}"), &e))?;
                Ok(file)
            });
            self.state = State::Busy(closed);
            if let State::Busy(closed) = &mut self.state {
                let settled = within(self.shared.sync_wait_max, closed).await;
                self.take_settled(settled);
            }
            self.check()?;
        }
        self.gathered.shrink_to_fit();
        Ok(())
    }

    fn footprint(&self) -> Footprint {
        let descriptors = match &self.state {
            State::Idle(Some(file)) => usize::from(file.is_open()),
            State::Busy(_) => 1,
            State::Idle(None) | State::Failed(_) => 0,
        };
        Footprint { memory_bytes: self.gathered.capacity() + size_of::<Self>(), descriptors }
    }

    async fn complete(mut self: Box<Self>, checksums: BlockChecksums) -> Result<(), StoreError> {
        self.settle().await?;
        checksums.check_count(&self.name, self.written)?;
        let (file, mut rest) = (self.take_file(), std::mem::take(&mut self.gathered));
        rest.extend_from_slice(&footer::encode(&self.name, self.written, &checksums));
        let (shared, name) = (self.shared.clone(), self.name);
        let published = self.shared.pool.start(move || {
            let file = append(&shared, &name, file, &rest)?;
            file.publish(&shared.path(&name)).map_err(|e| store_error(&format!("completing {name}"), &e))
        });
        within(self.shared.sync_wait_max, published).await
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StoreError> {
        // What failed has removed its file already.
        if self.settle().await.is_err() {
            return Ok(());
        }
        let Some(file) = self.take_file() else { return Ok(()) };
        let name = self.name;
        let removed =
            move || file.remove().map_err(|e| store_error(&format!("removing what was written of {name}"), &e));
        self.shared.pool.run(removed).await
    }
}

impl Drop for FsWriter {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Idle(None));
        if matches!(state, State::Idle(None) | State::Failed(_)) {
            return;
        }
        // Removing a large file takes long; a runtime that is gone has nobody left to block.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(state))),
            Err(_) => drop(state),
        }
    }
}

fn append(shared: &Shared, name: &ObjectName, file: Option<TempFile>, chunk: &[u8]) -> Result<TempFile, StoreError> {
    let failed = |e: std::io::Error| store_error(&format!("writing {name}"), &e);
    let mut file = match file {
        Some(file) => file,
        None => step_io!("object.create", identity, shared.temp.create()).map_err(failed)?,
    };
    step_io!("object.write", identity, file.append(chunk)).map_err(failed)?;
    Ok(file)
}

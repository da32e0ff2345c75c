//! Bytes that wait until there are enough for a part: in memory, or in objects of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use atoll_types::ObjectName;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared as SharedFuture};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Shared;
use super::api::{Metadata, Put};
use super::error::Failure;
use super::memory::Share;
use crate::StoreError;

/// How many tails a part may have before they are made one.
const TAILS_MAX: usize = 16;

/// Bytes in an object of their own, or on their way into it.
#[derive(Clone)]
pub(super) struct Tail {
    pub(super) key: String,
    pub(super) bytes: usize,
    saved: SharedFuture<BoxFuture<'static, Result<(), StoreError>>>,
}

impl Tail {
    /// Waits until it is an object.
    pub(super) async fn saved(&self) -> Result<(), StoreError> {
        self.saved.clone().await
    }
}

/// Bytes of the part to come.
pub(super) struct Gathered {
    name: ObjectName,
    /// The first of them, in order.
    tails: Vec<Tail>,
    /// Those that follow.
    bytes: BytesMut,
    /// The memory that was paid for them.
    share: Option<Share>,
    /// When the last of those in memory came.
    touched: Option<Instant>,
    /// How many tails were begun.
    tails_begun: u64,
    live: Live,
}

/// Keys of tails that may be there.
#[derive(Clone, Default)]
pub(super) struct Live(Arc<Mutex<BTreeSet<String>>>);

impl Live {
    /// All of them.
    pub(super) fn keys(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }

    /// Removes tails that nobody needs any more. What cannot be removed now is removed with the upload.
    pub(super) async fn remove(&self, shared: &Shared, tails: &[Tail]) {
        for tail in tails {
            match shared.api.delete(&tail.key).await {
                Ok(()) => drop(self.0.lock().remove(&tail.key)),
                Err(failure) => tracing::debug!(key = tail.key, error = %failure.text, "a tail is not removed yet"),
            }
        }
    }
}

/// What a part is made of.
pub(super) struct Part {
    pub(super) tails: Vec<Tail>,
    bytes: BytesMut,
    share: Option<Share>,
}

/// The bytes of a part, and the memory that they take until they are sent.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _share: Option<Share>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Gathered {
    pub(super) fn new(name: ObjectName) -> Self {
        Self {
            name,
            tails: Vec::new(),
            bytes: BytesMut::new(),
            share: None,
            touched: None,
            tails_begun: 0,
            live: Live::default(),
        }
    }

    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.tails.iter().map(|tail| tail.bytes).sum::<usize>() + self.bytes.len()
    }

    /// Those in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes.extend_from_slice(bytes);
            self.touched = Some(Instant::now());
        }
    }

    /// Bytes that are not paid for.
    pub(super) fn owed(&self) -> u32 {
        let paid = self.share.as_ref().map_or(0, Share::num_permits);
        u32::try_from(self.bytes.len().saturating_sub(paid)).unwrap_or(u32::MAX)
    }

    pub(super) fn paid(&mut self, share: Share) {
        match &mut self.share {
            Some(all) => all.merge(share),
            None => self.share = Some(share),
        }
    }

    /// Since when nothing has come, if there is anything in memory.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.touched.filter(|_| !self.bytes.is_empty())
    }

    /// Takes the first bytes out, with what was paid for them.
    pub(super) fn split(&mut self, bytes: usize) -> Part {
        let tails = std::mem::take(&mut self.tails);
        let from_tails: usize = tails.iter().map(|tail| tail.bytes).sum();
        let first = self.bytes.split_to(bytes.saturating_sub(from_tails).min(self.bytes.len()));
        let share = self.share.as_mut().and_then(|all| all.split(first.len().min(all.num_permits())));
        if self.bytes.is_empty() {
            // An empty rest would keep the whole buffer alive, unpaid.
            (self.bytes, self.share, self.touched) = (BytesMut::new(), None, None);
        }
        Part { tails, bytes: first, share }
    }

    /// Sends what is in memory into an object of its own, if it is more than this. What follows comes after it.
    pub(super) fn hand_over(&mut self, shared: &Arc<Shared>, keep_bytes: usize) {
        if self.bytes.len() <= keep_bytes {
            return;
        }
        let mut part = self.split(self.len());
        if part.tails.len() < TAILS_MAX {
            self.tails = std::mem::take(&mut part.tails);
        }
        self.tails_begun += 1;
        let (key, bytes) = (shared.keys.tail(&self.name, self.tails_begun), part.len());
        self.live.0.lock().insert(key.clone());
        let saving = shared.tasks.spawn(save(shared.clone(), self.live.clone(), key.clone(), part));
        let ended = |e| Err(StoreError::Other(format!("the task that saved the end of an upload ended: {e}")));
        let saved = saving.map(move |saved| saved.unwrap_or_else(ended)).boxed().shared();
        self.tails.push(Tail { key, bytes, saved });
    }

    /// Objects that bytes went into and have not left yet.
    pub(super) fn tails(&self) -> &[Tail] {
        &self.tails
    }

    /// Keys of all tails that may be there.
    pub(super) fn live(&self) -> Live {
        self.live.clone()
    }
}

impl Part {
    fn len(&self) -> usize {
        self.tails.iter().map(|tail| tail.bytes).sum::<usize>() + self.bytes.len()
    }

    /// All bytes in one piece.
    pub(super) async fn assemble(self, shared: &Shared) -> Result<Body, StoreError> {
        if self.tails.is_empty() {
            return Ok(Body { bytes: self.bytes.freeze(), _share: self.share, _turn: None });
        }
        for tail in &self.tails {
            tail.saved().await?;
        }
        // Beside the memory of uploads, which may all be taken by those that wait for this.
        let turn = shared.assemblies.clone().acquire_owned().await.ok();
        let mut whole = BytesMut::with_capacity(self.len());
        for tail in &self.tails {
            let bytes = shared.api.get_all(&tail.key, tail.bytes as u64).await.map_err(Failure::into_store_error)?;
            if bytes.len() != tail.bytes {
                let (have, want) = (bytes.len(), tail.bytes);
                return Err(StoreError::Other(format!("{} has {have} bytes, and {want} were written to it", tail.key)));
            }
            whole.extend_from_slice(&bytes);
        }
        whole.extend_from_slice(&self.bytes);
        Ok(Body { bytes: whole.freeze(), _share: self.share, _turn: turn })
    }
}

async fn save(shared: Arc<Shared>, live: Live, key: String, part: Part) -> Result<(), StoreError> {
    let made_one = part.tails.clone();
    let body = part.assemble(&shared).await?;
    let put = shared.api.put(&key, body.bytes.clone(), Metadata::new(), Put::Aside).await;
    put.map_err(Failure::into_store_error)?;
    live.remove(&shared, &made_one).await;
    Ok(())
}

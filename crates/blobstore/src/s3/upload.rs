//! The parts of one object on their way.

use std::sync::Arc;

use atoll_types::ObjectName;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::api::{Metadata, SentPart};
use super::error::Failure;
use super::gathered::{Body, Gathered};
use super::litter::Litter;
use super::memory::Gatherer;
use super::{S3Options, Shared};
use crate::StoreError;

/// An object on its way.
pub(super) struct Upload {
    shared: Arc<Shared>,
    name: ObjectName,
    key: String,
    metadata: Metadata,
    /// The id of the upload, from the first part on.
    id: Arc<OnceCell<String>>,
    tasks: JoinSet<Result<SentPart, StoreError>>,
    parts_begun: usize,
    parts: Vec<SentPart>,
    gathered: Gatherer,
}

impl Upload {
    pub(super) fn new(shared: Arc<Shared>, name: ObjectName, metadata: Metadata) -> Self {
        let (key, gathered) = (shared.keys.object(&name), Arc::new(Mutex::new(Gathered::new(name))));
        shared.memory.register(&gathered);
        Self {
            shared,
            name,
            key,
            metadata,
            id: Arc::default(),
            tasks: JoinSet::new(),
            parts_begun: 0,
            parts: Vec::new(),
            gathered,
        }
    }

    /// Whether any part has begun: otherwise it may still become an object at once.
    pub(super) const fn has_parts(&self) -> bool {
        self.parts_begun > 0
    }

    /// Bytes of memory that it holds, with those on their way.
    pub(super) fn memory_bytes(&self) -> usize {
        let on_their_way = self.tasks.len() * self.shared.options.part_bytes;
        self.gathered.lock().in_memory() + on_their_way + self.parts.capacity() * size_of::<SentPart>()
    }

    /// Takes bytes, all at once.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.gathered.lock().push(bytes);
    }

    /// Pays for what was taken, and sends the parts that are full. May be dropped half-way and called again.
    pub(super) async fn go_on(&mut self) -> Result<(), StoreError> {
        self.shared.memory.pay(&self.shared, &self.gathered).await;
        let part_bytes = self.shared.options.part_bytes;
        while self.gathered.lock().len() >= part_bytes {
            while self.tasks.len() >= self.shared.options.part_concurrency {
                self.next().await?;
            }
            self.send_part(part_bytes)?;
        }
        Ok(())
    }

    /// Hands what is gathered on, if it is more than this, and waits for all that is on its way: nothing that was taken is
    /// in this process alone then. May be dropped half-way and called again.
    pub(super) async fn hand_over(&mut self, keep_bytes: usize) -> Result<(), StoreError> {
        self.go_on().await?;
        let tails = {
            let mut gathered = self.gathered.lock();
            gathered.hand_over(&self.shared, keep_bytes);
            gathered.tails().to_vec()
        };
        for tail in &tails {
            tail.saved().await?;
        }
        self.settle().await
    }

    /// All of an object that has no parts.
    pub(super) async fn take_small(&mut self) -> Result<Body, StoreError> {
        let part = {
            let mut gathered = self.gathered.lock();
            let all = gathered.len();
            gathered.split(all)
        };
        part.assemble(&self.shared).await
    }

    /// Sends what is left as the last part.
    pub(super) async fn send_last(&mut self) -> Result<(), StoreError> {
        self.go_on().await?;
        let left = self.gathered.lock().len();
        if left > 0 {
            self.send_part(left)?;
        }
        self.settle().await
    }

    /// Makes the object of its parts.
    pub(super) async fn complete(&mut self) -> Result<(), Failure> {
        self.parts.sort_unstable_by_key(|part| part.number);
        let id = self.id.get().cloned().unwrap_or_default();
        self.shared.api.complete_upload(&self.key, &id, &self.parts).await
    }

    /// The parts are an object now: there is nothing to give up.
    pub(super) fn completed(&mut self) {
        self.id = Arc::default();
    }

    /// What is left of it, once its tasks have ended. What it gathered is given up at once.
    pub(super) fn into_litter(mut self) -> impl Future<Output = Litter> + Send + 'static {
        let (live, tails) = {
            let mut gathered = self.gathered.lock();
            let (live, tails) = (gathered.live(), gathered.tails().to_vec());
            *gathered = Gathered::new(self.name);
            (live, tails)
        };
        async move {
            while self.tasks.join_next().await.is_some() {}
            for tail in &tails {
                let _saved_or_not = tail.saved().await;
            }
            Litter { key: self.key, upload: self.id.get().cloned(), objects: live.keys() }
        }
    }

    /// Whether it has left nothing that would have to be removed.
    pub(super) fn is_clean(&self) -> bool {
        self.parts_begun == 0 && self.gathered.lock().live().keys().is_empty()
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        while !self.tasks.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), StoreError> {
        match self.tasks.join_next().await {
            Some(Ok(sent)) => self.parts.push(sent?),
            Some(Err(error)) => {
                return Err(StoreError::Other(format!("a task that sent a part of {} ended: {error}", self.name)));
            }
            None => {}
        }
        Ok(())
    }

    fn send_part(&mut self, bytes: usize) -> Result<(), StoreError> {
        let number = self.parts_begun + 1;
        if number > S3Options::PARTS_MAX {
            let (max, part) = (S3Options::PARTS_MAX, self.shared.options.part_bytes);
            return Err(StoreError::Other(format!(
                "{} has more than {max} parts of {part} bytes, and S3 takes no more; configure larger parts",
                self.name
            )));
        }
        self.parts_begun = number;
        let part = self.gathered.lock().split(bytes);
        let (shared, key, id, metadata) =
            (self.shared.clone(), self.key.clone(), self.id.clone(), self.metadata.clone());
        let live = self.gathered.lock().live();
        self.tasks.spawn(async move {
            let tails = part.tails.clone();
            let body = part.assemble(&shared).await?;
            let create = || shared.api.create_upload(&key, metadata);
            let id = id.get_or_try_init(create).await.map_err(Failure::into_store_error)?;
            let sent = shared.api.upload_part(&key, id, number, body.bytes.clone()).await;
            let sent = sent.map_err(Failure::into_store_error)?;
            live.remove(&shared, &tails).await;
            Ok(sent)
        });
        Ok(())
    }
}

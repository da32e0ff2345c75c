//! Removes what uploads leave behind that nobody completes: parts and tails.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::api::Api;
use super::error::Failure;

/// How many uploads may wait to be removed; more are left to the sweep.
const WAITING_MAX: usize = 4_096;
/// How many are removed at once.
const CONCURRENCY: usize = 8;
/// How often what cannot be removed is tried again, and after how long for the first time.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What an upload has left behind.
#[derive(Debug)]
pub(super) struct Litter {
    /// The key of its object.
    pub(super) key: String,
    /// Its parts.
    pub(super) upload: Option<String>,
    /// Keys of objects that only it used.
    pub(super) objects: Vec<String>,
}

impl Litter {
    /// Removes as much of it as can be, and says what was first in the way. What is removed is forgotten.
    async fn remove(&mut self, api: &Api) -> Result<(), Failure> {
        let mut outcome = Ok(());
        if let Some(upload) = &self.upload {
            match api.abort_upload(&self.key, upload).await {
                Ok(()) => self.upload = None,
                Err(failure) => outcome = Err(failure),
            }
        }
        let mut left = Vec::new();
        for key in std::mem::take(&mut self.objects) {
            if let Err(failure) = api.delete(&key).await {
                left.push(key);
                outcome = outcome.and(Err(failure));
            }
        }
        self.objects = left;
        outcome
    }
}

/// Litter that becomes known when the requests of its upload have ended.
type Later = BoxFuture<'static, Litter>;

/// What came of the first try.
type Answer = oneshot::Sender<Result<(), Failure>>;

/// Takes litter to a task that removes it. The task ends with the last of these, when all is done.
#[derive(Clone)]
pub(super) struct Bin {
    sender: mpsc::Sender<(Later, Option<Answer>)>,
}

impl Bin {
    /// Starts the task.
    pub(super) fn start(api: Arc<Api>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(empty(api, receiver));
        Self { sender }
    }

    /// Leaves litter to the task.
    pub(super) fn throw(&self, litter: impl Future<Output = Litter> + Send + 'static) {
        if self.sender.try_send((Box::pin(litter), None)).is_err() {
            tracing::warn!("too many uploads are given up at once; what is left of one is left to the sweep");
        }
    }

    /// Has litter removed, and says what was in the way at first. It goes on when this is dropped.
    pub(super) async fn remove(&self, litter: impl Future<Output = Litter> + Send + 'static) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        // The task lives as long as this.
        let _sent = self.sender.send((Box::pin(litter), Some(answer))).await;
        answered.await.unwrap_or(Ok(()))
    }
}

async fn empty(api: Arc<Api>, receiver: mpsc::Receiver<(Later, Option<Answer>)>) {
    let waiting = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    waiting.for_each_concurrent(CONCURRENCY, |(later, answer)| remove(&api, later, answer)).await;
}

async fn remove(api: &Api, later: Later, answer: Option<Answer>) {
    let mut litter = later.await;
    let mut outcome = litter.remove(api).await;
    if let Some(answer) = answer {
        let _nobody_waits = answer.send(outcome.clone());
    }
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        if outcome.is_ok() {
            return;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        outcome = litter.remove(api).await;
    }
    if let Err(failure) = outcome {
        let key = litter.key;
        tracing::warn!(key, error = %failure.text, "an upload that was given up has left something to the sweep");
    }
}

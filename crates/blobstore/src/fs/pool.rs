//! File operations block; they run on tokio's blocking threads, a bounded number at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use crate::StoreError;

/// Hands out the right to block a thread.
#[derive(Clone)]
pub(super) struct Pool {
    permits: Arc<Semaphore>,
    wait_max: Duration,
}

/// An operation that runs, or will, whether or not it is polled. Dropped, it is given up if it has not begun;
/// otherwise it runs to its end, and what it yields is dropped on its own thread.
pub(super) struct Started<T>(Handle<T>);

enum Handle<T> {
    Running(JoinHandle<Result<T, StoreError>>),
    /// Waits for its turn in a task of its own: a permit that were given to a future which nobody polls, say that of
    /// a slow client, would be lost to all others.
    Queued(AbortOnDropHandle<Result<T, StoreError>>),
}

impl Pool {
    pub(super) fn new(concurrency: usize, wait_max: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(concurrency.max(1))), wait_max }
    }

    /// Starts an operation.
    pub(super) fn start<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Started<T> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Started(Handle::Running(blocking(permit, job))),
            Err(_) => Started(Handle::Queued(AbortOnDropHandle::new(tokio::spawn(queued(self.permits.clone(), job))))),
        }
    }

    /// Starts an operation and waits for it, as long as is allowed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        within(self.wait_max, self.start(job)).await
    }

    /// Waits for an operation that was started, as long as is allowed.
    pub(super) async fn wait<T>(&self, started: &mut Started<T>) -> Result<T, StoreError> {
        within(self.wait_max, started).await
    }
}

/// Waits for an operation, but no longer than this.
pub(super) async fn within<T>(
    wait_max: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(wait_max, operation).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!(
            "a file operation has not returned for {} s; is the disk or the network file system alive?",
            wait_max.as_secs_f32()
        ))),
    }
}

async fn queued<T: Send + 'static>(
    permits: Arc<Semaphore>,
    job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let permit = permits.acquire_owned().await.map_err(|_| stopping())?;
    blocking(permit, job).await.unwrap_or_else(|e| Err(ended(&e)))
}

fn blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> JoinHandle<Result<T, StoreError>> {
    spawn_blocking(move || {
        let _permit = permit;
        job()
    })
}

impl<T> Future for Started<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = match &mut self.0 {
            Handle::Running(handle) => Pin::new(handle).poll(context),
            Handle::Queued(handle) => Pin::new(handle).poll(context),
        };
        joined.map(|joined| joined.unwrap_or_else(|e| Err(ended(&e))))
    }
}

fn ended(error: &JoinError) -> StoreError {
    if error.is_cancelled() { stopping() } else { StoreError::Other(format!("a file operation failed: {error}")) }
}

fn stopping() -> StoreError {
    StoreError::Unavailable("the node is stopping".into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    /// An operation that runs until the sender is used or dropped.
    fn stuck(pool: &Pool) -> (Sender<()>, Started<()>) {
        let (release, wait) = channel::<()>();
        let started = pool.start(move || {
            let _ = wait.recv();
            Ok(())
        });
        (release, started)
    }

    #[tokio::test]
    async fn an_operation_that_hangs_is_given_up_and_what_waits_behind_it_never_runs() {
        let pool = Pool::new(1, SHORT);
        let (release, mut hanging) = stuck(&pool);
        assert!(matches!(pool.wait(&mut hanging).await, Err(StoreError::Unavailable(_))));
        let ran = Arc::new(AtomicBool::new(false));
        let behind = ran.clone();
        let given_up = pool.run(move || Ok(behind.swap(true, Ordering::SeqCst))).await;
        assert!(matches!(given_up, Err(StoreError::Unavailable(_))), "its thread is still taken");
        release.send(()).unwrap();
        within(LONG, hanging).await.unwrap();
        within(LONG, pool.start(|| Ok(()))).await.unwrap();
        assert!(!ran.load(Ordering::SeqCst), "what was given up before it began ran after all");
    }

    #[tokio::test]
    async fn one_that_nobody_polls_keeps_nobody_waiting() {
        let pool = Pool::new(1, LONG);
        let (release, first) = stuck(&pool);
        let never_polled = pool.start(|| Ok(()));
        let last = pool.start(|| Ok(7));
        release.send(()).unwrap();
        first.await.unwrap();
        assert_eq!(pool.wait(&mut { last }).await.unwrap(), 7);
        never_polled.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_operation_alone() {
        let pool = Pool::new(1, LONG);
        let broken = pool.run(|| -> Result<(), StoreError> { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(StoreError::Other(_))));
        assert!(pool.run(|| Ok(())).await.is_ok());
    }
}

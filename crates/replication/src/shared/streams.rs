//! Who may have a stream from another region: what a client waits for never waits for what nobody waits for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fetch::FetchError;

/// Streams of shared blobs; half of them are left to what a client waits for.
pub(super) struct Streams {
    all: Arc<Semaphore>,
    background: Arc<Semaphore>,
}

/// The right to one stream.
pub(super) struct Permit {
    _stream: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

impl Streams {
    /// At least one for either.
    pub(super) fn new(streams_max: usize) -> Self {
        let streams_max = streams_max.clamp(2, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(streams_max)), background: Arc::new(Semaphore::new(streams_max / 2)) }
    }

    /// For what a client waits for.
    pub(super) async fn waited(&self) -> Result<Permit, FetchError> {
        Ok(Permit { _stream: acquire(&self.all).await?, _background: None })
    }

    /// For what nobody waits for.
    pub(super) async fn background(&self) -> Result<Permit, FetchError> {
        let background = acquire(&self.background).await?;
        Ok(Permit { _stream: acquire(&self.all).await?, _background: Some(background) })
    }
}

async fn acquire(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, FetchError> {
    of.clone().acquire_owned().await.map_err(|_| FetchError::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn half_of_the_streams_are_left_to_clients() {
        let streams = Streams::new(4);
        let _background = [streams.background().await.unwrap(), streams.background().await.unwrap()];
        assert!(streams.background().now_or_never().is_none());
        let _waited = [streams.waited().await.unwrap(), streams.waited().await.unwrap()];
        assert!(streams.waited().now_or_never().is_none());
    }
}

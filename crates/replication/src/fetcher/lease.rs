//! The lease of a region's duty: one node of a region replicates at a time.

use std::sync::Arc;
use std::time::Duration;

use atoll_fault::step;
use atoll_metadata::{Command, Done, Outcome, read};
use atoll_registry::{MetadataGroup, MetadataGroupExt, Mode, ProposeError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{LocalNode, propose};

/// The duty that the fetcher has, in the lease's key.
pub(crate) const DUTY: &str = "replication";
/// Shortest wait between two tries.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Until when this node may act, by its own monotonic clock.
#[derive(Clone)]
pub(crate) struct Lease(watch::Receiver<Option<Instant>>);

impl Lease {
    /// Whether this node holds the duty now.
    pub(crate) fn held(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// When the duty ends unless the lease is renewed.
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits until the lease is taken, renewed or lost.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Its keeper has stopped; nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Takes and renews the lease.
pub(crate) struct LeaseKeeper {
    local: LocalNode,
    metadata: Arc<dyn MetadataGroup>,
    ttl: Duration,
    until: watch::Sender<Option<Instant>>,
}

impl LeaseKeeper {
    pub(crate) fn new(local: LocalNode, metadata: Arc<dyn MetadataGroup>, ttl: Duration) -> (Self, Lease) {
        let (until, lease) = watch::channel(None);
        (Self { local, metadata, ttl, until }, Lease(lease))
    }

    /// Keeps the lease until it is stopped. What it held then runs out by itself.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            // Otherwise it would be refused, and is asked for as soon as that is over.
            let may_ask = self.metadata.freshness().mode == Mode::ReadWrite && self.is_registered();
            let pause = if may_ask { self.ask().await } else { WAIT_MIN };
            let asked_again = tokio::time::sleep(pause.max(WAIT_MIN));
            if stop.run_until_cancelled(asked_again).await.is_none() {
                self.until.send_replace(None);
                return;
            }
        }
    }

    /// Whether the region is known, as far as this node has come. What cannot be read is asked for all the same.
    fn is_registered(&self) -> bool {
        self.metadata.read(|kv| read::region(kv, &self.local.region)).map_or(true, |region| region.is_some())
    }

    /// Asks once; when to ask again.
    async fn ask(&self) -> Duration {
        let asked_at = Instant::now();
        match self.acquire().await {
            Ok(Some(Done::Lease { granted: true, .. })) => {
                // It ends `ttl` after the entry's time, which is later than now was: the margin is for clocks that
                // run at slightly different rates.
                self.until.send_replace(Some(asked_at + self.ttl - self.ttl / 10));
                self.ttl / 3
            }
            Ok(Some(Done::Lease { expires_ms, now_ms, .. })) => {
                self.until.send_replace(None);
                Duration::from_millis(expires_ms.saturating_sub(now_ms) + 1).min(self.ttl)
            }
            Ok(_) => self.ttl / 3,
            Err(error) => {
                tracing::debug!(region = %self.local.region, %error, "the lease was not renewed");
                self.ttl / 10
            }
        }
    }

    async fn acquire(&self) -> Result<Option<Done>, ProposeError> {
        let command = Command::AcquireLease {
            region: self.local.region.clone(),
            duty: DUTY.to_owned(),
            holder: self.local.node,
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
        };
        match step!("lease.acquire", propose::system(&*self.metadata, command, self.ttl / 3).await)?.outcome {
            Outcome::Done(done) => Ok(Some(done)),
            Outcome::Rejected(why) => {
                tracing::warn!(region = %self.local.region, %why, "the lease was refused");
                Ok(None)
            }
        }
    }
}

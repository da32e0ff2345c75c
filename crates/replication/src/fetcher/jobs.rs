//! Replicated jobs: what is too large for one command goes on in bounded steps, which somebody has to ask for.

use std::sync::Arc;
use std::time::Duration;

use atoll_fault::step;
use atoll_metadata::{Command, KvError, KvRead, Outcome, read};
use atoll_registry::{MetadataGroup, MetadataGroupExt, Mode};
use atoll_types::{RegionId, Revision};
use tokio_util::sync::CancellationToken;

use super::DUTY;
use super::lease::Lease;
use crate::{LeaderClock, LocalNode, propose};

/// Longest wait for one step.
const STEP_WAIT: Duration = Duration::from_secs(10);

/// Asks for the steps. Every region's lease holder is able to, and one does: that of the first region whose lease is
/// held. Two at once would do no harm, since a step goes on from the job's own cursor.
pub(crate) struct Jobs {
    pub(crate) local: LocalNode,
    pub(crate) metadata: Arc<dyn MetadataGroup>,
    pub(crate) lease: Lease,
    pub(crate) clock: Arc<LeaderClock>,
    pub(crate) tick: Duration,
}

impl Jobs {
    /// Works jobs off until it is stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                if !self.step().await {
                    tokio::time::sleep(self.tick).await;
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// One step of the oldest job; false when there is nothing to do here.
    async fn step(&self) -> bool {
        if !self.lease.held() || self.metadata.freshness().mode == Mode::ReadOnly {
            return false;
        }
        let job = match self.metadata.read(|kv| self.due(kv)) {
            Ok(Some(job)) => job,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, "replicated jobs cannot be read");
                return false;
            }
        };
        let proposed = propose::system(&*self.metadata, Command::ContinueJob { job }, STEP_WAIT);
        match step!("job.continue", proposed.await) {
            Ok(applied) => matches!(applied.outcome, Outcome::Done(_)),
            Err(error) => {
                tracing::info!(%job, %error, "a replicated job waits");
                false
            }
        }
    }

    fn due(&self, kv: &dyn KvRead) -> Result<Option<Revision>, KvError> {
        if self.driver(kv)?.as_ref() != Some(&self.local.region) {
            return Ok(None);
        }
        Ok(read::jobs(kv, 1)?.first().copied())
    }

    /// The first region whose lease is held.
    fn driver(&self, kv: &dyn KvRead) -> Result<Option<RegionId>, KvError> {
        let now_ms = self.clock.now_ms(read::last_time_ms(kv)?);
        for region in read::regions(kv)? {
            if read::lease(kv, &region.region, DUTY)?.is_some_and(|lease| lease.expires_ms > now_ms) {
                return Ok(Some(region.region));
            }
        }
        Ok(None)
    }
}

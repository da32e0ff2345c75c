//! The group as one node sees it during one of its lives.

use std::sync::Arc;

use async_trait::async_trait;
use atoll_metadata::{KvError, KvRead};
use atoll_registry::{Applied, BarrierError, Freshness, MetadataGroup, Mode, Proposal, ProposeError};
use atoll_types::Revision;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Log;
use crate::plant::{Plant, is_planted};

/// Between two rounds of a barrier that failed.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// What a node's parts are given. Whatever is left of a node that died gets nothing more out of it, nor into it.
pub(crate) struct Seat {
    pub(crate) log: Arc<Log>,
    pub(crate) node: usize,
    pub(crate) life: CancellationToken,
}

impl Seat {
    fn freshness_of_living(&self) -> Freshness {
        let mut state = self.log.state.lock();
        let replica = &mut state.replicas[self.node];
        let mode = if replica.is_read_write() { Mode::ReadWrite } else { Mode::ReadOnly };
        replica.told_read_only += u64::from(mode == Mode::ReadOnly);
        let read_only_since = (mode == Mode::ReadOnly).then_some(std::time::UNIX_EPOCH);
        Freshness { applied: Revision(replica.applied), mode, staleness: replica.staleness(), read_only_since }
    }
}

#[async_trait]
impl MetadataGroup for Seat {
    fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
        if self.life.is_cancelled() {
            return Err(KvError("this node is dead".into()));
        }
        let kv = self.log.state.lock().replicas[self.node].kv.clone();
        read(kv.as_ref());
        Ok(())
    }

    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        let proposed = self.log.propose(self.node, proposal);
        let proposed = self.life.run_until_cancelled(proposed).await;
        proposed.unwrap_or_else(|| Err(ProposeError::Unknown("this node is dead".into())))
    }

    async fn barrier(&self, deadline: Instant) -> Result<Revision, BarrierError> {
        if is_planted(Plant::StaleBarrier) {
            return Ok(self.freshness().applied);
        }
        let passed = async {
            while Instant::now() < deadline {
                if let Some(index) = self.log.round(self.node).await {
                    let applied = self.log.wait_applied(self.node, index, deadline).await;
                    return if applied { Ok(Revision(index)) } else { Err(BarrierError::Behind(Revision(index))) };
                }
                sleep(ROUND_PAUSE).await;
            }
            Err(BarrierError::NoQuorum)
        };
        let passed = self.life.run_until_cancelled(passed);
        let passed = tokio::select! {
            biased;
            passed = passed => passed.unwrap_or(Err(BarrierError::NoQuorum)),
            () = sleep_until(deadline) => Err(BarrierError::NoQuorum),
        };
        if passed.is_err() {
            self.log.judge.fired("barrier failed");
        }
        passed
    }

    async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError> {
        let waited = self.life.run_until_cancelled(self.log.wait_applied(self.node, revision.0, deadline)).await;
        if waited == Some(true) { Ok(()) } else { Err(BarrierError::Behind(revision)) }
    }

    fn freshness(&self) -> Freshness {
        if self.life.is_cancelled() {
            let read_only_since = Some(std::time::UNIX_EPOCH);
            return Freshness { applied: Revision(0), mode: Mode::ReadOnly, staleness: None, read_only_since };
        }
        self.freshness_of_living()
    }
}

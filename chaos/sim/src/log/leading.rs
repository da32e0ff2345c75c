//! Who leads, and what becomes of entries when that changes.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep};

use super::{ELECTION_MAX, Log, State, Write};

/// How often it is looked whether the leader still leads.
const LOOK: Duration = Duration::from_millis(50);

impl Log {
    /// Elects whoever hears a majority when nobody who does leads, until the run is over.
    pub(crate) async fn elect(self: Arc<Self>) {
        let mut gone_since = None;
        loop {
            sleep(LOOK).await;
            let sound = self.leader().is_some_and(|leader| self.in_majority(leader));
            if sound {
                gone_since = None;
                continue;
            }
            let since = *gone_since.get_or_insert_with(Instant::now);
            let patience = self
                .state
                .lock()
                .dice
                .millis(ELECTION_MAX.as_millis() as u64 / 3, ELECTION_MAX.as_millis() as u64 * 2 / 3);
            if since.elapsed() >= patience && self.try_elect() {
                gone_since = None;
            }
        }
    }

    /// The leader steps down, and another one may take its place.
    pub(crate) fn depose(&self) {
        let mut state = self.state.lock();
        state.leader = None;
        state.term += 1;
    }

    fn try_elect(&self) -> bool {
        let mut state = self.state.lock();
        let up = state.up();
        let able: Vec<usize> = (0..up.len()).filter(|node| self.net.has_majority(*node, &up)).collect();
        let Some(leader) = state.dice.pick(&able).copied() else { return false };
        (state.leader, state.term) = (Some(leader), state.term + 1);
        self.trace.note("log", &format!("node {leader} leads in term {}", state.term));
        self.judge.fired("leader elected");
        let mut limbo = std::mem::take(&mut state.limbo);
        limbo.sort_by_key(|write| (write.term, write.nth));
        for log in limbo.chunk_by(|one, next| one.term == next.term) {
            self.keep_a_beginning(&mut state, log);
        }
        true
    }

    /// What the new leader has of an earlier one's log, beyond what is committed: all of it, or a beginning. A log ends
    /// where its last write is torn.
    fn keep_a_beginning(&self, state: &mut State, log: &[Write]) {
        let sizes: Vec<u64> = log.iter().map(|write| write.entry.encode().len() as u64).collect();
        let all = sizes.iter().sum();
        let (end, mut at) = (if state.dice.chance(0.5) { all } else { state.dice.between(0, all) }, 0);
        for (write, size) in log.iter().zip(sizes) {
            let start = at;
            at += size;
            if at <= end {
                self.judge.fired("write committed by the next leader");
                self.commit(state, write.entry.clone());
                continue;
            }
            self.judge.fired("write lost with its leader");
            if start < end {
                self.judge.fired("write torn in a log");
            }
        }
    }
}

//! Copies of this region that turned out missing or corrupt: their records are dropped, so that they are fetched again.
//! The last copy of a blob is marked instead, so that clients upload the blob again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_blobstore::BlobStore;
use atoll_fault::step;
use atoll_metadata::{Command, CopyOutcome, Done, DropItem, KvError, KvRead, Outcome, read};
use atoll_types::{ObjectName, RequestId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::view::View;
use crate::{Mode, Proposal};

/// Most reports that wait. One that finds no room is left out: the next reader of that copy makes it again.
const QUEUE_MAX: usize = 256;
/// For how long a copy that was reported is not reported again: the group may have kept it, being the last one.
const SILENCE: Duration = Duration::from_secs(60);
/// Most copies that are remembered for that.
const REMEMBERED_MAX: usize = 4_096;
/// How long a drop may take.
const DROP_WAIT: Duration = Duration::from_secs(30);

/// Takes reports.
#[derive(Clone)]
pub(crate) struct Suspects {
    queue: mpsc::Sender<DropItem>,
}

/// Acts on them.
pub(crate) struct Dropper {
    view: View,
    blobs: Arc<dyn BlobStore>,
    queue: mpsc::Receiver<DropItem>,
    reported: HashMap<ObjectName, Instant>,
}

impl Suspects {
    pub(crate) fn new(view: View, blobs: Arc<dyn BlobStore>) -> (Self, Dropper) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        (Self { queue: sender }, Dropper { view, blobs, queue, reported: HashMap::new() })
    }

    /// This copy is missing or corrupt. Never waits.
    pub(crate) fn report(&self, copy: DropItem) {
        if self.queue.try_send(copy).is_err() {
            tracing::debug!(object = %copy.object, "too many bad copies at once; this one is reported when it is read next");
        }
    }
}

impl Dropper {
    /// Runs until it is dropped, or nobody is left who could report.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, Command::ITEMS_MAX).await > 0 {
            let mut copies = self.new_ones(batch.drain(..));
            // What cannot be read is as good as unmarked: the group decides.
            copies.retain(|copy| !self.view.read(|kv| is_marked(kv, copy)).unwrap_or(false));
            if !copies.is_empty() {
                self.drop_copies(copies).await;
            }
        }
    }

    fn new_ones(&mut self, batch: impl Iterator<Item = DropItem>) -> Vec<DropItem> {
        let now = Instant::now();
        if self.reported.len() > REMEMBERED_MAX {
            self.reported.retain(|_, at| now.duration_since(*at) < SILENCE);
        }
        let mut copies = Vec::new();
        for copy in batch {
            let silent = self.reported.get(&copy.object).is_some_and(|at| now.duration_since(*at) < SILENCE);
            if !silent && self.reported.len() <= REMEMBERED_MAX {
                self.reported.insert(copy.object, now);
                copies.push(copy);
            }
        }
        copies
    }

    /// Names the exact objects, so that a copy that has replaced a bad one is never hit. A store that does not work at
    /// all is no reason to drop what it holds.
    async fn drop_copies(&mut self, copies: Vec<DropItem>) {
        let freshness = self.view.freshness();
        if freshness.mode == Mode::ReadOnly || self.blobs.probe().await.is_err() {
            for copy in &copies {
                self.reported.remove(&copy.object);
            }
            return;
        }
        tracing::warn!(copies = copies.len(), first = %copies[0].digest, object = %copies[0].object,
            "copies of this region are missing or corrupt; they are dropped and fetched again");
        let proposal = Proposal {
            command: Command::DropCopies { region: self.view.config.region.clone(), copies: copies.clone() },
            request: RequestId::random(),
            seen: freshness.applied,
            may_be_retry: false,
            actor: String::new(),
            client_address: String::new(),
            deadline: Instant::now() + DROP_WAIT,
        };
        match step!("copy.distrust", self.view.metadata.propose(proposal).await) {
            Ok(applied) => tell_of_last_copies(&copies, &applied.outcome),
            Err(error) => {
                tracing::warn!(%error, "bad copies could not be dropped; their next reader reports them again");
            }
        }
    }
}

/// Whether the group knows already that this copy, the last one, is bad.
fn is_marked(kv: &dyn KvRead, copy: &DropItem) -> Result<bool, KvError> {
    let blob = read::blob(kv, &copy.digest)?;
    Ok(blob.is_some_and(|blob| blob.suspect && blob.copies.iter().any(|(_, object)| *object == copy.object)))
}

fn tell_of_last_copies(copies: &[DropItem], outcome: &Outcome) {
    let Outcome::Done(Done::Copies(outcomes)) = outcome else { return };
    for (copy, _) in copies.iter().zip(outcomes).filter(|(_, outcome)| **outcome == CopyOutcome::LastCopy) {
        tracing::error!(digest = %copy.digest, object = %copy.object,
            "the last copy of a blob is missing or corrupt; push the blob again, to any region");
    }
}

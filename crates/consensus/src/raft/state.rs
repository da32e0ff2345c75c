//! The replicated state machine as openraft wants it, over the storage's state.

use std::convert::identity;
use std::io;
use std::sync::Arc;

use atoll_fault::{step, step_io};
use atoll_metadata::{Command, KvError};
use atoll_storage::{StateBatch, StateStore, StorageError};
use atoll_types::Revision;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::blocking::blocking;
use super::codec;
use super::types::{
    EncodedApplied, EncodedEntry, Entry, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, Types,
};
use crate::clock::Stamper;
use crate::fence::Fence;

/// Entries that share one write batch, at most.
const BATCH_ENTRIES_MAX: usize = 512;
/// Bytes that share one write batch, about.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// The state machine. One task applies; whoever waits for a revision watches it.
pub(crate) struct StateMachine {
    store: Arc<StateStore>,
    applied: watch::Sender<u64>,
    stamper: Arc<Stamper>,
    fence: Arc<Fence>,
    renewal: Option<JoinHandle<()>>,
}

impl StateMachine {
    /// Publishes each revision that is applied through `applied`, and tells `stamper` the time of each entry and `fence`
    /// when the nodes change.
    pub(crate) fn new(
        store: Arc<StateStore>,
        applied: watch::Sender<u64>,
        stamper: Arc<Stamper>,
        fence: Arc<Fence>,
    ) -> Self {
        Self { store, applied, stamper, fence, renewal: None }
    }

    fn publish(&self) {
        let revision = self.store.revision();
        self.applied.send_if_modified(|applied| std::mem::replace(applied, revision) != revision);
    }

    /// Has a snapshot made in place of a damaged one. Beside the applying task, which must neither wait for it nor end
    /// with it: the sender of the damaged one asks again.
    fn renew(&mut self) {
        if self.renewal.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let store = self.store.clone();
        self.renewal = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = store.create_checkpoint() {
                tracing::error!(%error, "no snapshot can be made in place of a damaged one; it is tried again");
            }
        }));
    }

    async fn apply_some(&self, entries: Vec<EntryResponder<Types>>) -> io::Result<()> {
        let (entries, responders): (Vec<Entry>, Vec<_>) = entries.into_iter().unzip();
        let (store, stamper, fence) = (self.store.clone(), self.stamper.clone(), self.fence.clone());
        let replies = blocking(move || {
            let mut seen = Seen { stamper: &stamper, nodes_changed: false };
            let replies = apply_all(&store, &mut seen, &entries)?;
            if seen.nodes_changed {
                fence.learn(&store)?;
            }
            Ok::<_, StorageError>(replies)
        });
        let replies = replies.await?;
        step!("apply.publish", self.publish());
        for (responder, reply) in responders.into_iter().zip(replies) {
            responder.into_iter().for_each(|responder: ApplyResponder<Types>| responder.send(reply.clone()));
        }
        Ok(())
    }
}

/// What is noticed of entries while they are applied.
struct Seen<'a> {
    stamper: &'a Stamper,
    nodes_changed: bool,
}

impl Seen<'_> {
    fn entry(&mut self, entry: &atoll_metadata::Entry) {
        self.stamper.observe(entry.time_ms);
        self.nodes_changed |= matches!(entry.command, Command::RegisterNode(_) | Command::RemoveNode { .. });
    }
}

/// Applies entries in as few write batches as their size admits, each with how far it leads.
fn apply_all(store: &StateStore, seen: &mut Seen<'_>, entries: &[Entry]) -> Result<Vec<EncodedApplied>, StorageError> {
    let mut replies = Vec::with_capacity(entries.len());
    while replies.len() < entries.len() {
        let batch = store.apply_batch(|batch| {
            let mut applied = Vec::new();
            for entry in &entries[replies.len()..] {
                applied.push(apply_one(batch, seen, entry)?);
                if batch.bytes() >= BATCH_BYTES_MAX {
                    break;
                }
            }
            Ok(applied)
        })?;
        replies.extend(batch);
    }
    Ok(replies)
}

fn apply_one(batch: &mut StateBatch<'_>, seen: &mut Seen<'_>, entry: &Entry) -> Result<EncodedApplied, StorageError> {
    let reply = match &entry.payload {
        EntryPayload::Blank => EncodedApplied::default(),
        EntryPayload::Normal(command) => apply_command(batch, seen, entry.log_id.index(), command)?,
        EntryPayload::Membership(membership) => {
            let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
            batch.set_membership(codec::encode_membership(&stored));
            EncodedApplied::default()
        }
    };
    batch.entry_applied(entry.log_id.index(), codec::encode_log_id(&entry.log_id))?;
    Ok(reply)
}

fn apply_command(
    batch: &mut StateBatch<'_>,
    seen: &mut Seen<'_>,
    index: u64,
    command: &EncodedEntry,
) -> Result<EncodedApplied, StorageError> {
    let broken = |error| KvError(format!("entry {index} of the log cannot be decoded: {error}"));
    let entry = atoll_metadata::Entry::decode(&command.0).map_err(broken)?;
    let span = apply_span(index, &entry.envelope.trace_parent);
    let _entered = span.enter();
    let applied = if atoll_fault::PLANTED {
        crate::planted::apply(batch.kv(), Revision(index), &entry)?
    } else {
        atoll_metadata::apply(batch.kv(), Revision(index), &entry)?
    };
    seen.entry(&entry);
    Ok(EncodedApplied(applied.encode().into()))
}

/// Nothing for what nobody traces: most entries.
fn apply_span(index: u64, trace_parent: &str) -> tracing::Span {
    if trace_parent.is_empty() {
        return tracing::Span::none();
    }
    let span = tracing::info_span!("apply", revision = index);
    atoll_telemetry::set_trace_parent(&span, trace_parent);
    span
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.store.applied();
        let log_id = applied.log_id.as_deref().map(codec::decode_log_id).transpose()?;
        let membership = applied.membership.as_deref().map(codec::decode_membership).transpose()?;
        Ok((log_id, membership.unwrap_or_default()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(BATCH_ENTRIES_MAX);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.apply_some(chunk).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { store: self.store.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        tracing::info!(revision = snapshot.applied().revision, last = ?meta.last_log_id, "installing a snapshot");
        let (store, fence, stamper) = (self.store.clone(), self.fence.clone(), self.stamper.clone());
        let install = blocking(move || {
            store.install(&snapshot)?;
            fence.learn(&store)?;
            stamper.learn(&store)
        });
        step_io!("snapshot.install", identity, install.await)?;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let current = self.store.current_checkpoint();
        if current.as_ref().is_some_and(|snapshot| snapshot.is_damaged()) {
            self.renew();
        }
        current.map(describe).transpose()
    }
}

/// Makes snapshots beside the applying task.
pub(crate) struct SnapshotBuilder {
    store: Arc<StateStore>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let store = self.store.clone();
        describe(blocking(move || store.create_checkpoint()).await?)
    }
}

/// A checkpoint with what it says of itself, read from inside it.
pub(crate) fn describe(checkpoint: SnapshotData) -> io::Result<Snapshot> {
    let applied = checkpoint.applied();
    let membership = applied.membership.as_deref().map(codec::decode_membership).transpose()?;
    let meta = SnapshotMeta {
        last_log_id: applied.log_id.as_deref().map(codec::decode_log_id).transpose()?,
        last_membership: membership.unwrap_or_default(),
    };
    Ok(Snapshot { meta, snapshot: checkpoint })
}

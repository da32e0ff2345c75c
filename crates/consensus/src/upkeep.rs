//! What keeps a node fit: the log's bound in bytes, and the end of the process when Raft has failed.

use std::sync::Arc;
use std::time::Duration;

use atoll_storage::LogStore;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use tokio_util::sync::CancellationToken;

use crate::options::{OnFatal, Retention};
use crate::raft::Raft;

/// How often the log is measured.
const INTERVAL: Duration = Duration::from_secs(30);
/// Entries that are kept even above the bound in bytes, so that who is a moment behind needs no snapshot.
const ENTRIES_MIN: u64 = 1_000;

/// Ends the process when Raft has failed.
pub(crate) async fn watch_for_failure(raft: Raft, on_fatal: OnFatal, cancel: CancellationToken) {
    let mut metrics = raft.metrics();
    loop {
        let running = metrics.borrow_watched().running_state.clone();
        match running {
            Err(_) if cancel.is_cancelled() => return,
            Err(Fatal::Stopped) => return,
            Err(error) => {
                on_fatal(&format!("consensus has failed: {error}"));
                return;
            }
            Ok(()) => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            // Nobody is left who could tell: the task of Raft has panicked.
            changed = metrics.changed() => if changed.is_err() {
                if !cancel.is_cancelled() {
                    on_fatal("consensus has ended without a word");
                }
                return;
            },
        }
    }
}

/// Keeps the log within its bound in bytes: makes a snapshot and purges below it, sooner than the count of entries asks.
pub(crate) async fn bound_log(raft: Raft, log: Arc<LogStore>, retention: Retention, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let log = log.clone();
        let bytes = tokio::task::spawn_blocking(move || log.bytes()).await.unwrap_or(0);
        if bytes > retention.bytes && shrink(&raft).await.is_err() {
            return;
        }
    }
}

async fn shrink(raft: &Raft) -> Result<(), Fatal<crate::raft::Types>> {
    let snapshot = raft.metrics().borrow_watched().snapshot;
    if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.index() > ENTRIES_MIN) {
        raft.trigger().purge_log(snapshot.index() - ENTRIES_MIN).await?;
    }
    raft.trigger().snapshot().await
}

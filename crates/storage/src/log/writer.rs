//! The queue and the one thread that drains it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use atoll_fault::{planted, step};
use parking_lot::{Condvar, Mutex};

use super::disk::Disk;
use super::queue::{Queued, View, Write};
use super::{LogDone, LogEntry, LogStats, LogStore};
use crate::error::{Result, StorageError};

/// Bytes of one batch. More would make the first of a burst wait for the last.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub(super) type OnFatal = Box<dyn Fn(&StorageError) + Send + Sync>;

/// What callers and the writer thread share.
pub(super) struct Shared {
    pub(super) disk: Disk,
    state: Mutex<State>,
    /// Something was queued, or the log is closing.
    queued: Condvar,
    /// Something was taken from the queue, or the log has failed.
    drained: Condvar,
}

struct State {
    view: View,
    queue: VecDeque<Queued>,
    /// Bytes of the queue and of the batch that is being written.
    bytes: usize,
    number: u64,
    closing: bool,
    failed: Option<String>,
    stats: LogStats,
}

impl Shared {
    pub(super) fn new(disk: Disk) -> Result<Self> {
        let state = State {
            view: disk.load()?,
            queue: VecDeque::new(),
            bytes: 0,
            number: 0,
            closing: false,
            failed: None,
            stats: LogStats::default(),
        };
        Ok(Self { disk, state: Mutex::new(state), queued: Condvar::new(), drained: Condvar::new() })
    }

    pub(super) fn view<R>(&self, look: impl FnOnce(&View) -> R) -> R {
        look(&self.state.lock().view)
    }

    /// Makes a write visible to readers and queues it.
    pub(super) fn submit(&self, write: Write, done: Option<LogDone>) -> Result<()> {
        let mut state = self.state.lock();
        let write = state.view.to_do(write);
        let bytes = write.bytes();
        if matches!(write, Write::Append(_)) {
            // An append larger than the whole bound is let in alone.
            let full = |s: &mut State| s.failed.is_none() && s.bytes > 0 && s.bytes + bytes > LogStore::QUEUE_BYTES_MAX;
            self.drained.wait_while(&mut state, full);
        }
        state.check(&write)?;
        state.number += 1;
        state.bytes += bytes;
        let number = state.number;
        state.view.take_in(number, &write);
        state.queue.push_back(Queued { number, write, done });
        self.queued.notify_one();
        Ok(())
    }

    pub(super) fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>> {
        let state = self.state.lock();
        state.check_alive()?;
        state.check_read(from, to)?;
        // A log that was never purged may begin anywhere.
        let from = from.max(state.view.first);
        let to = to.min(state.view.next.unwrap_or(0));
        if from >= to {
            return Ok(Vec::new());
        }
        let tail: Vec<LogEntry> =
            state.view.tail.iter().map(|(_, e)| e).filter(|e| (from..to).contains(&e.index)).cloned().collect();
        let disk_to = tail.first().map_or(to, |entry| entry.index);
        // Made under the lock, so that database and tail are of one moment; read without it.
        let cursor = if from < disk_to { Some(self.disk.cursor(from, disk_to)?) } else { None };
        drop(state);

        let mut take = Take { entries: Vec::new(), next: from, bytes_left: bytes_max };
        if let Some(mut cursor) = cursor {
            while take.wants_more()
                && let Some(entry) = cursor.next()?
            {
                take.push(entry)?;
            }
        }
        for entry in tail {
            if take.wants_more() {
                take.push(entry)?;
            }
        }
        take.finish(to)
    }

    pub(super) fn bytes(&self) -> u64 {
        let (from, to) = self.view(|view| (view.first, view.next.unwrap_or(0)));
        self.disk.bytes(from, to).unwrap_or(0)
    }

    pub(super) fn stats(&self) -> LogStats {
        let bytes = self.bytes();
        let state = self.state.lock();
        LogStats {
            first_index: state.view.first_index(),
            last_index: state.view.last_index(),
            bytes,
            queued_bytes: state.bytes as u64,
            ..state.stats
        }
    }

    /// Waits for work; `None` when the log is closing and all is written.
    fn next_batch(&self) -> Option<Vec<Queued>> {
        let mut state = self.state.lock();
        self.queued.wait_while(&mut state, |s| s.queue.is_empty() && !s.closing);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES_MAX
            && let Some(queued) = state.queue.pop_front()
        {
            bytes += queued.write.bytes();
            batch.push(queued);
        }
        if batch.is_empty() { None } else { Some(batch) }
    }

    fn batch_written(&self, batch: &[Queued], micros: u64) {
        let mut state = self.state.lock();
        for queued in batch {
            state.bytes -= queued.write.bytes();
            if let Write::Append(entries) = &queued.write {
                state.stats.entries += entries.len() as u64;
            }
        }
        if let Some(last) = batch.last() {
            state.view.written(last.number);
        }
        state.stats.batches += 1;
        state.stats.write_micros += micros;
        state.stats.write_micros_max = state.stats.write_micros_max.max(micros);
        self.drained.notify_all();
    }

    /// Ends the log: what is queued fails, and so does every call from now on.
    fn fail(&self, error: &StorageError) -> Vec<Queued> {
        let mut state = self.state.lock();
        state.failed = Some(error.to_string());
        self.drained.notify_all();
        state.queue.drain(..).collect()
    }
}

impl State {
    fn check_alive(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(StorageError::Failed(why.clone())))
    }

    /// Whether a write may follow what is there.
    fn check(&self, write: &Write) -> Result<()> {
        self.check_alive()?;
        match write {
            Write::Append(entries) => self.check_append(entries),
            Write::Truncate(index) => self.check_truncate(*index),
            Write::Purge(index, _) => check_index(*index),
            _ => Ok(()),
        }
    }

    fn check_read(&self, from: u64, to: u64) -> Result<()> {
        match self.view.purged {
            Some((through, _)) if from <= through && from < to => Err(StorageError::Purged { from, through }),
            _ => Ok(()),
        }
    }

    fn check_append(&self, entries: &[LogEntry]) -> Result<()> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        check_index(last.index)?;
        let next = self.view.next.unwrap_or(first.index);
        match (next..).zip(entries).find(|(index, entry)| entry.index != *index) {
            Some((want, entry)) => {
                Err(StorageError::OutOfOrder(format!("entry {} is appended where {want} is due", entry.index)))
            }
            None => Ok(()),
        }
    }

    fn check_truncate(&self, index: u64) -> Result<()> {
        match &self.view.purged {
            Some((purged, _)) if index <= *purged => {
                Err(StorageError::OutOfOrder(format!("truncating from {index}, purged up to {purged} already")))
            }
            _ => Ok(()),
        }
    }
}

/// The highest index cannot be: none would follow it.
fn check_index(index: u64) -> Result<()> {
    let none_follows = || StorageError::OutOfOrder(format!("{index} is beyond the end of any log"));
    index.checked_add(1).map(drop).ok_or_else(none_follows)
}

/// Collects entries up to a bound, and notices a hole.
struct Take {
    entries: Vec<LogEntry>,
    next: u64,
    bytes_left: usize,
}

impl Take {
    fn wants_more(&self) -> bool {
        self.entries.is_empty() || self.bytes_left > 0
    }

    fn push(&mut self, entry: LogEntry) -> Result<()> {
        if entry.index != self.next {
            return Err(hole(self.next));
        }
        if self.entries.is_empty() || entry.data.len() <= self.bytes_left {
            self.bytes_left = self.bytes_left.saturating_sub(entry.data.len());
            self.next += 1;
            self.entries.push(entry);
        } else {
            self.bytes_left = 0;
        }
        Ok(())
    }

    fn finish(self, to: u64) -> Result<Vec<LogEntry>> {
        if self.bytes_left > 0 && self.next < to { Err(hole(self.next)) } else { Ok(self.entries) }
    }
}

fn hole(index: u64) -> StorageError {
    StorageError::OutOfOrder(format!("entry {index} is missing from the log"))
}

/// Owns the writer thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>, on_fatal: OnFatal) -> std::io::Result<Self> {
        let thread = std::thread::Builder::new().name("raft-log".to_owned()).spawn({
            let shared = shared.clone();
            move || run(&shared, &on_fatal)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.queued.notify_all();
        let Some(thread) = self.thread.take() else { return };
        // The last user may be a `done` that runs on the thread itself, which cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the log's writer thread panicked");
        }
    }
}

fn run(shared: &Shared, on_fatal: &OnFatal) {
    let _panic = PanicGuard { shared, on_fatal };
    while let Some(mut batch) = shared.next_batch() {
        if planted!("log_acknowledged_before_written") {
            batch.iter_mut().filter_map(|queued| queued.done.take()).for_each(|done| done(Ok(())));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let start = Instant::now();
        match shared.disk.write(batch.iter().map(|queued| &queued.write)) {
            Ok(()) => {
                shared.batch_written(&batch, start.elapsed().as_micros() as u64);
                let told = |done: LogDone| step!("log.acknowledge", done(Ok(())));
                batch.into_iter().filter_map(|queued| queued.done).for_each(told);
            }
            Err(error) => end(shared, on_fatal, batch, &error),
        }
    }
}

/// Nothing is written any more: whoever waits is told.
fn end(shared: &Shared, on_fatal: &OnFatal, batch: Vec<Queued>, error: &StorageError) {
    tracing::error!(%error, "the Raft log cannot be written; this node must stop");
    let rest = shared.fail(error);
    on_fatal(error);
    let failed = batch.into_iter().chain(rest).filter_map(|queued| queued.done);
    failed.for_each(|done| done(Err(std::io::Error::other(error.to_string()))));
}

/// Ends the log when a `done` panics, so that nobody waits for a thread that is gone.
struct PanicGuard<'a> {
    shared: &'a Shared,
    on_fatal: &'a OnFatal,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = StorageError::Failed("the log's writer thread panicked".to_owned());
            // What is queued is dropped unanswered: another `done` that panics now would abort the process.
            drop(self.shared.fail(&error));
            (self.on_fatal)(&error);
        }
    }
}

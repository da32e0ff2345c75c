//! What waits to be written, and what of it can be read meanwhile.

use std::collections::VecDeque;

use super::{LogDone, LogEntry};

/// A write to the log.
pub(super) enum Write {
    Append(Vec<LogEntry>),
    /// Removes every entry from an index on.
    Truncate(u64),
    /// Removes every entry up to an index, and keeps the log id.
    Purge(u64, Vec<u8>),
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    /// Writes nothing: its `done` is called when all before it is durable.
    Barrier,
}

impl Write {
    /// What it counts for against the queue's bound, in bytes.
    pub(super) fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        OVERHEAD
            + match self {
                Self::Append(entries) => entries.iter().map(|e| OVERHEAD + e.data.len()).sum(),
                Self::Vote(bytes) | Self::Committed(bytes) | Self::Purge(_, bytes) => bytes.len(),
                Self::Truncate(_) | Self::Barrier => 0,
            }
    }

    /// Whether it must be synced before it is acknowledged. The committed log id alone may go back.
    pub(super) fn must_sync(&self) -> bool {
        !matches!(self, Self::Committed(_) | Self::Barrier)
    }
}

/// A write in the queue.
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) write: Write,
    pub(super) done: Option<LogDone>,
}

/// The log as its readers see it: everything queued counts as written.
#[derive(Default)]
pub(super) struct View {
    /// Lowest index, if there is any entry.
    pub(super) first: u64,
    /// The index of the next entry; `None` until something was appended or purged, when any index may come first.
    pub(super) next: Option<u64>,
    pub(super) purged: Option<(u64, Vec<u8>)>,
    pub(super) vote: Option<Vec<u8>>,
    pub(super) committed: Option<Vec<u8>>,
    /// Entries that are queued and perhaps not in the database yet, with the number of their write; indexes and
    /// numbers both ascend.
    pub(super) tail: VecDeque<(u64, LogEntry)>,
}

impl View {
    pub(super) fn first_index(&self) -> Option<u64> {
        self.next.filter(|next| *next > self.first).map(|_| self.first)
    }

    pub(super) fn last_index(&self) -> Option<u64> {
        self.next.filter(|next| *next > self.first).map(|next| next - 1)
    }

    /// What of a write is to be done. A purge of what is purged already is nothing: written, it would lower the index on
    /// the disk, and the log would not open again.
    pub(super) fn to_do(&self, write: Write) -> Write {
        match (&write, &self.purged) {
            (Write::Purge(index, _), Some((purged, _))) if index <= purged => Write::Barrier,
            _ => write,
        }
    }

    /// Takes a write in, before it is queued under a number.
    pub(super) fn take_in(&mut self, number: u64, write: &Write) {
        match write {
            Write::Append(entries) => self.append(number, entries),
            Write::Truncate(index) => self.truncate(*index),
            Write::Purge(index, purged) => self.purge(*index, purged),
            Write::Vote(vote) => self.vote = Some(vote.clone()),
            Write::Committed(committed) => self.committed = Some(committed.clone()),
            Write::Barrier => {}
        }
    }

    /// Forgets entries of the tail whose write is in the database.
    pub(super) fn written(&mut self, number: u64) {
        while self.tail.front().is_some_and(|(by, _)| *by <= number) {
            self.tail.pop_front();
        }
    }

    fn append(&mut self, number: u64, entries: &[LogEntry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        if self.next.is_none() {
            self.first = first.index;
        }
        self.next = Some(last.index + 1);
        self.tail.extend(entries.iter().map(|entry| (number, entry.clone())));
    }

    fn truncate(&mut self, index: u64) {
        let Some(next) = self.next else { return };
        let end = next.min(index.max(self.first));
        // A log that is empty and was never purged is as new: any index may come first.
        self.next = if end == self.first && self.purged.is_none() { None } else { Some(end) };
        while self.tail.back().is_some_and(|(_, entry)| entry.index >= index) {
            self.tail.pop_back();
        }
    }

    fn purge(&mut self, index: u64, purged: &[u8]) {
        self.purged = Some((index, purged.to_vec()));
        self.first = self.first.max(index + 1);
        self.next = Some(self.next.unwrap_or(0).max(self.first));
        while self.tail.front().is_some_and(|(_, entry)| entry.index <= index) {
            self.tail.pop_front();
        }
    }
}

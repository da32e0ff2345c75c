//! What happened, in order, with a hash over all of it: two runs of a seed are the same if their hashes are.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// The trace of a run. Clones are the same trace.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    start: Instant,
    hasher: Xxh3,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Begins now; the lines are kept only if someone will read them.
    pub(crate) fn new(keep: bool) -> Self {
        let inner = Inner { start: Instant::now(), hasher: Xxh3::new(), lines: keep.then(Vec::new) };
        Self(Arc::new(Mutex::new(inner)))
    }

    pub(crate) fn note(&self, who: &str, what: &str) {
        let mut inner = self.0.lock();
        let line = format!("{:>9.3} {who:<8} {what}", inner.start.elapsed().as_secs_f64());
        inner.hasher.update(line.as_bytes());
        if let Some(lines) = &mut inner.lines {
            lines.push(line);
        }
    }

    /// Virtual time since the beginning, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.0.lock().start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.lock().hasher.digest()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().lines.clone().unwrap_or_default()
    }
}

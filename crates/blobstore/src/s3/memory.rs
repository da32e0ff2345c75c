//! Memory that all uploads of a store share, and how it comes back when it is short.
//!
//! A writer takes bytes first and pays for them then, so that a caller that goes away has handed over all of them or none.
//! One that cannot pay asks those that have gathered for longest without going on to hand over what they hold, and after a
//! while hands over its own. So nobody waits for memory that only the waiting could give back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Shared;
use super::gathered::Gathered;

/// How long a writer waits for memory before it hands over its own bytes.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a writer must not have gone on for its bytes to be handed over by another one.
const IDLE_MIN: Duration = Duration::from_millis(500);

/// A share of the memory; it comes back when it is dropped.
pub(super) type Share = OwnedSemaphorePermit;

/// What one writer has gathered. Others may hand it over.
pub(super) type Gatherer = Arc<Mutex<Gathered>>;

/// The memory.
pub(super) struct Memory {
    /// One permit is one byte.
    bytes: Arc<Semaphore>,
    gatherers: Mutex<Vec<Weak<Mutex<Gathered>>>>,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes)), gatherers: Mutex::default() }
    }

    /// Makes it known who gathers, as long as it lives.
    pub(super) fn register(&self, gatherer: &Gatherer) {
        let mut all = self.gatherers.lock();
        if all.len() == all.capacity() {
            all.retain(|known| known.strong_count() > 0);
        }
        all.push(Arc::downgrade(gatherer));
    }

    /// Pays for what is gathered and not paid for. Dropped half-way it is still owed.
    pub(super) async fn pay(&self, shared: &Arc<Shared>, gatherer: &Gatherer) {
        let owed = gatherer.lock().owed();
        if owed == 0 {
            return;
        }
        if let Ok(share) = self.bytes.clone().try_acquire_many_owned(owed) {
            gatherer.lock().paid(share);
            return;
        }
        self.relieve(shared, gatherer);
        match tokio::time::timeout(PATIENCE, self.bytes.clone().acquire_many_owned(owed)).await {
            Ok(Ok(share)) => gatherer.lock().paid(share),
            // It is never closed; or there is too little for too long.
            Ok(Err(_)) | Err(_) => gatherer.lock().hand_over(shared, 0),
        }
    }

    /// Has the bytes of whoever has not gone on for longest handed over, other than this one's.
    fn relieve(&self, shared: &Arc<Shared>, than: &Gatherer) {
        let all: Vec<Gatherer> = self.gatherers.lock().iter().filter_map(Weak::upgrade).collect();
        let idle = all.iter().filter(|one| !Arc::ptr_eq(one, than)).filter_map(|one| {
            let since = one.lock().idle_since()?;
            Some((since, one))
        });
        if let Some((since, longest)) = idle.min_by_key(|(since, _)| *since)
            && since + IDLE_MIN <= Instant::now()
        {
            longest.lock().hand_over(shared, 0);
        }
    }
}

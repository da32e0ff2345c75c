//! The memory for bodies that are held whole.

use std::sync::Arc;
use std::time::Duration;

use atoll_registry::RegistryError;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes of bodies that are held whole, at once in a node.
const HELD_BYTES_MAX: usize = 128 << 20;
const HELD_UNIT_BYTES: usize = 16 << 10;
/// How long a body waits for others to go.
const HELD_WAIT: Duration = Duration::from_secs(5);

/// The memory for bodies that are held whole: many of them at once would take all that there is.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    units: Arc<Semaphore>,
    /// What takes it, for whoever gets none.
    by: &'static str,
}

impl Held {
    /// Memory that nothing takes yet.
    pub(crate) fn new(by: &'static str) -> Self {
        Self { units: Arc::new(Semaphore::new(HELD_BYTES_MAX / HELD_UNIT_BYTES)), by }
    }

    /// Of no bytes yet.
    pub(crate) fn part(&self) -> Part {
        Part { held: self.clone(), bytes: 0, permit: None }
    }
}

/// What one body takes of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    held: Held,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Part {
    /// Takes as much as a body of so many bytes needs; waits a while for others to give theirs back.
    pub(crate) async fn grow_to(&mut self, bytes: usize) -> Result<(), RegistryError> {
        let units = self.lacks(bytes);
        if units > 0 {
            let more = timeout(HELD_WAIT, self.held.units.clone().acquire_many_owned(units)).await;
            self.take(more.ok().and_then(Result::ok))?;
        }
        Ok(())
    }

    /// Units that it lacks for so many bytes.
    fn lacks(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_sub(self.bytes).div_ceil(HELD_UNIT_BYTES)).unwrap_or(u32::MAX)
    }

    fn take(&mut self, more: Option<OwnedSemaphorePermit>) -> Result<(), RegistryError> {
        let by = self.held.by;
        let busy = || RegistryError::Busy(format!("{by} take all memory for them; try again"));
        let more = more.ok_or_else(busy)?;
        self.bytes += more.num_permits() * HELD_UNIT_BYTES;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// Gives back what a body of so many bytes does not need.
    fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes) / HELD_UNIT_BYTES;
        if let Some(permit) = &mut self.permit
            && let Some(spare) = permit.split(spare)
        {
            self.bytes -= spare.num_permits() * HELD_UNIT_BYTES;
        }
    }

    /// Bytes that have this part for as long as anybody holds them, be it a connection's queue. More than was taken for
    /// them is taken at once or refused: what is here already must not wait for memory.
    pub(crate) fn of(mut self, bytes: Bytes) -> Result<Bytes, RegistryError> {
        let units = self.lacks(bytes.len());
        if units > 0 {
            self.take(self.held.units.clone().try_acquire_many_owned(units).ok())?;
        }
        self.shrink_to(bytes.len());
        Ok(Bytes::from_owner(Taken { bytes, _part: self }))
    }
}

/// Bytes and their part.
struct Taken {
    bytes: Bytes,
    _part: Part,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bodies_take_no_more_than_there_is_and_give_it_back() {
        let held = Held::new("others");
        let mut most = held.part();
        most.grow_to(HELD_BYTES_MAX - HELD_UNIT_BYTES).await.unwrap();
        let mut small = held.part();
        small.grow_to(1).await.unwrap();
        small.grow_to(HELD_UNIT_BYTES).await.unwrap();
        let refused = small.grow_to(HELD_UNIT_BYTES + 1).await;
        assert!(matches!(refused, Err(RegistryError::Busy(_))), "{refused:?}");
        let waiting = tokio::spawn(async move { small.grow_to(3 * HELD_UNIT_BYTES).await });
        tokio::task::yield_now().await;
        drop(most);
        waiting.await.unwrap().unwrap();
        held.part().grow_to(HELD_BYTES_MAX).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_held_anywhere_keep_their_part_and_no_more() {
        let held = Held::new("others");
        let mut part = held.part();
        part.grow_to(HELD_BYTES_MAX).await.unwrap();
        let bytes = part.of(Bytes::from(vec![7; HELD_UNIT_BYTES + 1])).unwrap();
        let queued = bytes.slice(1..2);
        drop(bytes);
        let mut rest = held.part();
        rest.grow_to(HELD_BYTES_MAX - 2 * HELD_UNIT_BYTES).await.unwrap();
        assert!(matches!(rest.grow_to(HELD_BYTES_MAX).await, Err(RegistryError::Busy(_))), "a piece of it is queued");
        let more = held.part().of(Bytes::from_static(b"x"));
        assert!(matches!(more, Err(RegistryError::Busy(_))), "what was not taken beforehand does not wait");
        drop(queued);
        rest.grow_to(HELD_BYTES_MAX).await.unwrap();
    }
}

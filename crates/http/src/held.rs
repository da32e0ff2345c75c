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

    /// Bytes that have their part for as long as anybody holds them, be it a connection's queue. They are here already:
    /// it is there at once, or they are refused.
    pub(crate) fn keep(&self, bytes: Bytes) -> Result<Bytes, RegistryError> {
        let permit = self.units.clone().try_acquire_many_owned(units_of(bytes.len()));
        let permit = permit.map_err(|_| self.is_taken())?;
        Ok(Bytes::from_owner(Taken { bytes, _permit: permit }))
    }

    fn is_taken(&self) -> RegistryError {
        RegistryError::Busy(format!("{} take all memory for them; try again", self.by))
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
        let units = units_of(bytes.saturating_sub(self.bytes));
        if units == 0 {
            return Ok(());
        }
        let more = timeout(HELD_WAIT, self.held.units.clone().acquire_many_owned(units)).await;
        let more = more.ok().and_then(Result::ok).ok_or_else(|| self.held.is_taken())?;
        self.bytes += more.num_permits() * HELD_UNIT_BYTES;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

fn units_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(HELD_UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// Bytes and their part.
struct Taken {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
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

    #[tokio::test]
    async fn bytes_keep_their_part_for_as_long_as_a_piece_of_them_is_queued() {
        let held = Held::new("others");
        let bytes = held.keep(Bytes::from(vec![7; HELD_UNIT_BYTES + 1])).unwrap();
        let queued = bytes.slice(1..2);
        drop(bytes);
        let rest = held.keep(Bytes::from(vec![7; HELD_BYTES_MAX - 2 * HELD_UNIT_BYTES])).unwrap();
        assert!(matches!(held.keep(Bytes::from_static(b"x")), Err(RegistryError::Busy(_))), "all of it is taken");
        drop(queued);
        assert_eq!(held.keep(Bytes::from_static(b"x")).unwrap(), "x");
        drop(rest);
        held.part().grow_to(HELD_BYTES_MAX).await.unwrap();
    }
}

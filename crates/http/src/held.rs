//! The memory for bodies that are held whole.

use std::sync::Arc;
use std::time::Duration;

use atoll_registry::RegistryError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes of bodies that are held whole, at once in a node.
const HELD_BYTES_MAX: usize = 128 << 20;
const HELD_UNIT_BYTES: usize = 16 << 10;
/// How long a body waits for others to go.
const HELD_WAIT: Duration = Duration::from_secs(5);

/// The memory for bodies that are held whole: many of them at once would take all that there is.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<Semaphore>);

impl Default for Held {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HELD_BYTES_MAX / HELD_UNIT_BYTES)))
    }
}

impl Held {
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
        let units = bytes.saturating_sub(self.bytes).div_ceil(HELD_UNIT_BYTES);
        if units == 0 {
            return Ok(());
        }
        let busy =
            || RegistryError::Busy("the manifests that are being put take all memory for them; try again".into());
        let more = self.held.0.clone().acquire_many_owned(u32::try_from(units).map_err(|_| busy())?);
        let more = timeout(HELD_WAIT, more).await.map_err(|_| busy())?.map_err(|_| busy())?;
        self.bytes += units * HELD_UNIT_BYTES;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bodies_take_no_more_than_there_is_and_give_it_back() {
        let held = Held::default();
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
}

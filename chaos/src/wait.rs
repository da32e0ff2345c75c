//! Waiting for conditions, with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

const POLL: Duration = Duration::from_millis(20);

/// Waits until the condition yields something.
///
/// # Errors
/// When it does not in time; the error says what was waited for.
pub(crate) fn wait_for<T>(what: &str, wait: Duration, mut condition: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if start.elapsed() > wait {
            bail!("not within {wait:?}: {what}");
        }
        std::thread::sleep(POLL);
    }
}

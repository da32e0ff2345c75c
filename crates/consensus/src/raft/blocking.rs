//! Disk calls from async code.

use std::io;

/// Runs what may block on a thread where it may.
pub(crate) async fn blocking<T, E>(call: impl FnOnce() -> Result<T, E> + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
    E: Into<io::Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(io::Error::other(error)),
    }
}

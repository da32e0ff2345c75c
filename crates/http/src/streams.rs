//! Runs the streams of HTTP/2 connections.

use hyper::rt::Executor;

use crate::attended::while_taken;

/// Runs each stream in a task of its own, for as long as its client takes what it is sent. One that is given up is
/// reset, alone: behind one connection may be a proxy with many clients, of which one is slow.
#[derive(Clone, Copy)]
pub(crate) struct Streams;

impl<S> Executor<S> for Streams
where
    S: Future + Send + 'static,
    S::Output: Send,
{
    fn execute(&self, stream: S) {
        tokio::spawn(async move {
            if while_taken(stream).await.is_none() {
                tracing::debug!("a client took nothing of an answer for too long; its stream is reset");
            }
        });
    }
}

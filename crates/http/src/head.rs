//! Gives up connections whose client begins a request and does not come to the end of its head (HTTP/1.1).
//!
//! hyper has one bound for this and for connections that are just idle; a head that trickles deserves less patience.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::activity::Activity;

/// A connection on which a head takes no longer than a bound, from its first byte on.
pub(crate) struct HeadGuard<T> {
    inner: T,
    activity: Activity,
    patience: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl<T> HeadGuard<T> {
    pub(crate) fn new(inner: T, activity: Activity, patience: Duration) -> Self {
        Self { inner, activity, patience, sleep: Box::pin(tokio::time::sleep(patience)) }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.activity.head_since() else { return Poll::Pending };
        let until = since + self.patience;
        if self.sleep.deadline() != until {
            self.sleep.as_mut().reset(until);
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadGuard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        // Also when bytes came: what trickles is always ready now and then.
        if self.poll_patience(cx).is_ready() {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the head of a request did not come to its end")));
        }
        ready!(polled)?;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadGuard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

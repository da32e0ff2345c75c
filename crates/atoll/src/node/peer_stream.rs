//! Connections of peers, of which there are only so many at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Most connections of peers at once: some dozen nodes with a handful each. More wait in the operating system's queue.
const CONNECTIONS_MAX: usize = 512;
/// What is waited when a connection cannot be taken.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A peer's connection, and its place among them.
#[derive(Debug)]
pub(crate) struct PeerStream {
    io: TcpStream,
    _place: OwnedSemaphorePermit,
}

/// The connections of a listener, as they come and find a place.
pub(crate) fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<PeerStream>> {
    accepted_within(listener, CONNECTIONS_MAX)
}

fn accepted_within(listener: TcpListener, connections_max: usize) -> impl Stream<Item = io::Result<PeerStream>> {
    let places = Arc::new(Semaphore::new(connections_max));
    futures::stream::unfold((listener, places), async |(listener, places)| {
        let place = places.clone().acquire_owned().await.ok()?;
        let accepted = listener.accept().await.map(|(io, _)| {
            // A socket without it is slow, not wrong.
            let _ = io.set_nodelay(true);
            PeerStream { io, _place: place }
        });
        if accepted.is_err() {
            // The server tries again at once: without a descriptor left, that would take a whole core.
            tokio::time::sleep(ACCEPT_BACKOFF).await;
        }
        Some((accepted, (listener, places)))
    })
}

impl Connected for PeerStream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_connection_waits_for_the_place_of_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = std::pin::pin!(accepted_within(listener, 1));
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut one = incoming.next().await.unwrap().unwrap();
        first.write_all(b"x").await.unwrap();
        assert_eq!(one.read_u8().await.unwrap(), b'x');

        let _second = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().now_or_never().is_none(), "there is one place");
        drop(one);
        let two = tokio::time::timeout(Duration::from_secs(60), incoming.next()).await.expect("the place is free");
        assert!(two.unwrap().is_ok());
    }
}

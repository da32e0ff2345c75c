//! One connection to a node: what comes over it, and whether it is alive.

use std::future::Future;
use std::time::Duration;

use atoll_proto::replication::v1::blobs_client::BlobsClient;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint, Error};

use super::connector::{CountingConnector, Received};
use crate::PeerOptions;

/// What must come over a connection for it to count as alive: more than the frames that keep it open.
const LIVE_BYTES_MIN: u64 = 256;
/// Longest wait for one answer or block, however much else comes meanwhile.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// HTTP/2 frames that hold a whole block and its header.
const FRAME_BYTES: u32 = 512 << 10;

/// HTTP/2 windows, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    stream: u32,
    connection: u32,
}

impl Windows {
    /// Largest that HTTP/2 knows.
    const MAX: u32 = (1 << 31) - 1;

    /// For streams that are drained as fast as they come.
    pub(super) fn shared(options: &PeerOptions) -> Self {
        Self { stream: options.stream_window_bytes, connection: options.connection_window_bytes }
    }

    /// For streams that are as slow as their clients: all of them may stand still, and the next one still has a window.
    pub(super) fn direct(options: &PeerOptions) -> Self {
        let (stream, streams) = (options.direct_window_bytes, options.direct_streams_max);
        let all = u32::try_from(streams).unwrap_or(u32::MAX).saturating_mul(stream);
        Self { stream, connection: all.clamp(stream, Self::MAX) }
    }
}

/// A connection that is made when it is first used, and again whenever that is needed.
pub(super) struct Way {
    client: BlobsClient<Channel>,
    received: Received,
}

impl Way {
    pub(super) fn new(address: &str, options: &PeerOptions, windows: Windows) -> Result<Self, Error> {
        let received = Received::default();
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(windows.stream)
            .initial_connection_window_size(windows.connection)
            .max_frame_size(FRAME_BYTES)
            .connect_with_connector_lazy(CountingConnector::new(options.dial.clone(), received.clone()));
        Ok(Self { client: BlobsClient::new(channel), received })
    }

    /// To ask over it.
    pub(super) fn client(&self) -> BlobsClient<Channel> {
        self.client.clone()
    }

    /// Waits for something, as long as anything at all comes over the connection within each `silence`: over a slow
    /// link that many share, it may take long. `None` when nothing came, or when it took [`PATIENCE_MAX`].
    pub(super) async fn while_alive<F: Future>(&self, silence: Duration, wait: F) -> Option<F::Output> {
        let (mut wait, until) = (std::pin::pin!(wait), Instant::now() + PATIENCE_MAX);
        while Instant::now() < until {
            let before = self.received.bytes();
            match timeout(silence, &mut wait).await {
                Ok(done) => return Some(done),
                Err(_) if self.received.bytes() - before < LIVE_BYTES_MIN => return None,
                Err(_) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_clients_that_stand_still_takes_the_window_of_their_connection() {
        let defaults = Windows::direct(&PeerOptions::default());
        assert_eq!((defaults.stream, defaults.connection), (1 << 20, 32 << 20));
        let many = PeerOptions { direct_streams_max: usize::MAX, ..PeerOptions::default() };
        assert_eq!(Windows::direct(&many).connection, Windows::MAX);
        let none = PeerOptions { direct_streams_max: 0, ..PeerOptions::default() };
        assert_eq!(Windows::direct(&none).connection, 1 << 20);
    }
}

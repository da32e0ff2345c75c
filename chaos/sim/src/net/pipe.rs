//! Connections: bytes in order, as late as the link is, held up while it is cut, ended when either node dies.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use atoll_replication::{Connection, Dial, Dialing};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Net, PORT};
use crate::plant::{Plant, is_planted};

/// Bytes that either side of a connection may have under way.
const WINDOW_BYTES: usize = 64 << 10;

/// Where a node takes connections.
pub(crate) struct Acceptor {
    connections: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    life: CancellationToken,
}

/// Connections as a server takes them.
pub(crate) type Accepting = UnboundedReceiverStream<io::Result<DuplexStream>>;

impl Net {
    /// From now on a node takes connections, for as long as it lives.
    pub(crate) fn listen(&self, node: usize, life: CancellationToken) -> Accepting {
        let (connections, incoming) = mpsc::unbounded_channel();
        self.acceptors.lock()[node] = Some(Acceptor { connections, life });
        UnboundedReceiverStream::new(incoming)
    }

    fn connect(self: &Arc<Self>, from: usize, to: usize, life: &CancellationToken) -> io::Result<DuplexStream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let acceptors = self.acceptors.lock();
        let there = acceptors.get(to).and_then(Option::as_ref).filter(|there| !there.life.is_cancelled());
        let there = there.ok_or_else(refused)?;
        let (client, client_end) = tokio::io::duplex(WINDOW_BYTES);
        let (server, server_end) = tokio::io::duplex(WINDOW_BYTES);
        there.connections.send(Ok(server)).map_err(|_| refused())?;
        let (from_client, to_client) = tokio::io::split(client_end);
        let (from_server, to_server) = tokio::io::split(server_end);
        let ends = [life.clone(), there.life.clone()];
        let net = self.clone();
        tokio::spawn(async move {
            let there = net.pump(from, to, from_client, to_server);
            let back = net.pump(to, from, from_server, to_client);
            // Either end of it ends both: the halves are dropped together.
            tokio::select! {
                biased;
                () = ends[0].cancelled() => {}
                () = ends[1].cancelled() => {}
                () = async { tokio::join!(there, back); } => {}
            }
        });
        Ok(client)
    }

    /// Carries bytes one way until they end, or all connections are broken.
    async fn pump(&self, from: usize, to: usize, mut read: ReadHalf<DuplexStream>, mut write: WriteHalf<DuplexStream>) {
        let (mut changes, resets) = (self.watch(), self.resets());
        let mut piece = vec![0; 16 << 10];
        loop {
            let count = tokio::select! {
                biased;
                () = async { let _ = changes.wait_for(|_| self.resets() != resets).await; } => {
                    self.judge.fired("connection reset");
                    break;
                }
                read = read.read(&mut piece) => read.unwrap_or(0),
            };
            if count == 0 {
                break;
            }
            let mut changed = self.watch();
            let delay = loop {
                match self.carry_bytes(from, to) {
                    Some(delay) => break delay,
                    // As long as the link is cut, bytes wait; the clients' timeouts end that.
                    None => drop(changed.changed().await),
                }
            };
            tokio::time::sleep(delay).await;
            if self.resets() != resets || write.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
    }
}

/// Makes connections for a node, for as long as it lives.
#[derive(Clone)]
pub(crate) struct SimDial {
    pub(crate) net: Arc<Net>,
    pub(crate) from: usize,
    pub(crate) life: CancellationToken,
}

impl fmt::Debug for SimDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDial from {}", self.from)
    }
}

impl Dial for SimDial {
    fn dial(&self, _: &str, port: u16) -> Dialing {
        let (dial, to) = (self.clone(), usize::from(port.saturating_sub(PORT)));
        Box::pin(async move {
            let there_and_back = [(dial.from, to), (to, dial.from)];
            for (from, to) in there_and_back {
                match dial.net.carry(from, to) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => {
                        tokio::time::sleep(Duration::from_secs(3_600)).await;
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
            if is_planted(Plant::DeafPeers) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let stream = dial.net.connect(dial.from, to, &dial.life)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}

//! The way to one node: counts the bytes that come from it, slows them down, cuts it, or lets it fall silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the link does to what comes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing passes, and nobody is told: as a stopped process.
    Silent,
    /// Connections are torn and refused: as a dead process.
    Cut,
}

pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    crossed: Arc<AtomicU64>,
    weather: watch::Sender<Weather>,
    stop: CancellationToken,
}

impl Link {
    /// A link to a server; `bytes_per_ms` limits what comes from it over one connection, zero does not.
    pub(crate) async fn new(server: SocketAddr, bytes_per_ms: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (crossed, weather, stop) =
            (Arc::new(AtomicU64::new(0)), watch::Sender::new(Weather::Fair), CancellationToken::new());
        let (counted, seen) = (crossed.clone(), weather.subscribe());
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *seen.borrow() != Weather::Cut {
                    tokio::spawn(carry(client, server, counted.clone(), seen.clone(), bytes_per_ms));
                }
            }
        };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(accept).await });
        Self { address, crossed, weather, stop }
    }

    /// Bytes that came from the server.
    pub(crate) fn crossed(&self) -> u64 {
        self.crossed.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.weather.send_replace(Weather::Cut);
        self.stop.cancel();
    }
}

async fn carry(
    client: TcpStream,
    server: SocketAddr,
    counted: Arc<AtomicU64>,
    weather: watch::Receiver<Weather>,
    rate: u64,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cut = weather.clone();
    let (there, back) = (weather.clone(), weather);
    let up = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            passable(there.clone()).await;
            if to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            passable(back.clone()).await;
            counted.fetch_add(n as u64, Ordering::SeqCst);
            if let Some(ms) = (n as u64).checked_div(rate) {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            if to_client.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = cut.wait_for(|w| *w == Weather::Cut) => {}
    }
}

async fn passable(mut weather: watch::Receiver<Weather>) {
    let _ = weather.wait_for(|w| *w != Weather::Silent).await;
}

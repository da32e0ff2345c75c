//! Takes the connections that other nodes make to one node, and carries each of them over its link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use super::Direction;
use super::owner::owner;
use super::pump;

/// Processes of the nodes that run, by the node's place.
pub(crate) type Pids = Vec<Option<u32>>;

/// A listener that fails (descriptors) is tried again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Both directions between the caller and the node.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) there: Arc<Direction>,
    pub(super) back: Arc<Direction>,
}

/// What listens in place of a node.
pub(super) struct Proxy {
    pub(super) listener: TcpListener,
    pub(super) target: SocketAddr,
    /// By the caller's place.
    pub(super) pairs: Vec<Pair>,
    pub(super) pids: Arc<Mutex<Pids>>,
}

impl Proxy {
    /// Runs for as long as the runtime does.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let Ok((client, address)) = self.listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let proxy = self.clone();
            tokio::spawn(async move { proxy.take(client, address).await });
        }
    }

    /// A caller that died meanwhile is nobody: its connection is closed.
    async fn take(&self, client: TcpStream, address: SocketAddr) {
        let Ok(here) = client.local_addr() else { return };
        let pids = self.pids.lock().clone();
        let running: Vec<(usize, u32)> = pids.iter().enumerate().filter_map(|(i, pid)| Some((i, (*pid)?))).collect();
        // It reads what may take a while: what passes on other connections must not wait for it.
        let from = tokio::task::spawn_blocking(move || owner(&running, address, here)).await;
        if let Some(pair) = from.ok().flatten().and_then(|from| self.pairs.get(from)) {
            carry(client, self.target, pair.clone()).await;
        }
    }
}

/// Connects through and carries both directions, until one end closes or the link resets them.
async fn carry(client: TcpStream, target: SocketAddr, pair: Pair) {
    // A connection that is made over a cut link hangs, as if its first packet got lost, or the answer to that.
    for direction in [&pair.there, &pair.back] {
        if direction.condition.subscribe().wait_for(|c| !c.dropped).await.is_err() {
            return;
        }
    }
    let Ok(server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let outcome = pump::both(&client, &server, &pair).await;
    if outcome.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Closing it from now on sends a reset instead of an end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;
    use crate::link::{Condition, Links};

    /// An echo behind a link from node 0 (this process) to node 1.
    fn echo() -> (Links, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut reader, &mut &stream);
                });
            }
        });
        let links = Links::new(2).unwrap();
        let pids = Arc::new(Mutex::new(vec![Some(std::process::id()), None]));
        let address = links.open(1, target, pids).unwrap();
        (links, address)
    }

    fn connect(address: SocketAddr) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn say(stream: &mut std::net::TcpStream, bytes: &[u8]) -> std::io::Result<Duration> {
        let start = Instant::now();
        stream.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, bytes);
        Ok(start.elapsed())
    }

    #[test]
    fn bytes_pass_and_are_counted_each_way() {
        let (links, address) = echo();
        let mut stream = connect(address);
        say(&mut stream, &[7; 100_000]).unwrap();
        assert_eq!((links.bytes(0, 1), links.bytes(1, 0)), (100_000, 100_000));
        assert_eq!(links.bytes(0, 0), 0);
    }

    #[test]
    fn a_far_link_takes_its_round_trip_and_a_slow_one_its_time() {
        let (links, address) = echo();
        let mut stream = connect(address);
        links.set_both(0, 1, Condition::far(Duration::from_millis(100), Duration::ZERO));
        assert!(say(&mut stream, b"x").unwrap() >= Duration::from_millis(95));
        links.heal();
        links.set(0, 1, Condition::slow(800_000));
        assert!(say(&mut stream, &[1; 50_000]).unwrap() >= Duration::from_millis(400));
    }

    #[test]
    fn a_cut_direction_holds_what_is_sent_until_it_is_healed() {
        let (links, address) = echo();
        let mut stream = connect(address);
        say(&mut stream, b"before").unwrap();
        links.set(1, 0, Condition::cut());
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(say(&mut stream, b"lost?").is_err());
        let arrived = links.bytes(0, 1);
        assert!(arrived >= 11, "the other direction is whole: {arrived}");
        links.heal();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"lost?");
    }

    #[test]
    fn a_reset_ends_connections_at_once_or_in_mid_stream() {
        let (links, address) = echo();
        let mut stream = connect(address);
        say(&mut stream, b"x").unwrap();
        links.reset(0, 1);
        assert!(stream.read(&mut [0; 1]).is_err(), "a reset is no end");
        let mut stream = connect(address);
        links.reset_after(1, 0, 50_000);
        let sent = stream.write_all(&[1; 200_000]);
        let read = stream.read_exact(&mut vec![0; 200_000]);
        assert!(sent.is_err() || read.is_err());
        assert!(!links.is_armed(1, 0));
        say(&mut connect(address), b"again").unwrap();
    }
}

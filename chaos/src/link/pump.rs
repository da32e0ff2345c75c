//! Carries the bytes of one connection, in each direction as the link's condition says.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use rand::RngExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Direction;
use super::proxy::Pair;

/// Most bytes that are read at once. Small, so that a rate is smooth.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that are under way at most: a window of 4 MiB.
const CHUNKS_MAX: usize = 256;

/// What a sender sends before it must hear that something arrived.
const WINDOW_BYTES: usize = 64 << 10;

/// Carries both directions until both are at their end.
///
/// # Errors
/// When an end fails, or the link resets its connections.
pub(super) async fn both(client: &TcpStream, server: &TcpStream, pair: &Pair) -> io::Result<()> {
    let there = direction(client, server, &pair.there, &pair.back);
    let back = direction(server, client, &pair.back, &pair.there);
    let (mut there_resets, mut back_resets) = (pair.there.resets.subscribe(), pair.back.resets.subscribe());
    there_resets.mark_unchanged();
    back_resets.mark_unchanged();
    tokio::select! {
        outcome = async { tokio::try_join!(there, back) } => outcome.map(drop),
        _ = there_resets.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        _ = back_resets.changed() => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// A run of bytes, and when it arrives.
type UnderWay = (Instant, Vec<u8>);

async fn direction(from: &TcpStream, to: &TcpStream, link: &Direction, back: &Direction) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let send = send(from, sender, link);
    let arrive = arrive(receiver, to, link, back);
    tokio::try_join!(send, arrive).map(drop)
}

/// Reads, and puts on the line at the link's rate.
async fn send(from: &TcpStream, line: mpsc::Sender<UnderWay>, link: &Direction) -> io::Result<()> {
    loop {
        let chunk = read(from).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let condition = *link.condition.borrow();
        tokio::time::sleep_until(link.transmit(condition, chunk.len())).await;
        let arrives = Instant::now() + condition.delay + jitter(condition.jitter);
        if line.send((arrives, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

fn jitter(most: Duration) -> Duration {
    if most.is_zero() { Duration::ZERO } else { most.mul_f64(rand::rng().random_range(0.0..1.0)) }
}

/// Writes what has arrived. While the link is cut, nothing does; while the way back is, no more than a sender sends
/// without hearing that anything arrived.
async fn arrive(
    mut line: mpsc::Receiver<UnderWay>,
    to: &TcpStream,
    link: &Direction,
    back: &Direction,
) -> io::Result<()> {
    let (mut condition, mut way_back) = (link.condition.subscribe(), back.condition.subscribe());
    let mut unacknowledged = 0;
    while let Some((arrives, chunk)) = line.recv().await {
        tokio::time::sleep_until(arrives).await;
        if condition.wait_for(|c| !c.dropped).await.is_err() {
            return Ok(());
        }
        unacknowledged = if way_back.borrow().dropped { unacknowledged + chunk.len() } else { 0 };
        if unacknowledged > WINDOW_BYTES && way_back.wait_for(|c| !c.dropped).await.is_err() {
            return Ok(());
        }
        if link.count(chunk.len() as u64) {
            write(to, &chunk[..chunk.len() / 2]).await?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        write(to, &chunk).await?;
    }
    // The end of a stream crosses a cut no more than its bytes do.
    let _ = condition.wait_for(|c| !c.dropped).await;
    shut(to)
}

async fn read(from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        from.readable().await?;
        match from.try_read(&mut chunk) {
            Ok(bytes) => {
                chunk.truncate(bytes);
                return Ok(chunk);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn shut(to: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        outcome => outcome,
    }
}

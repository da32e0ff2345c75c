//! The generator of HEAD requests. wrk waits for a body of the length that a HEAD tells, which never comes; here an
//! answer ends with its head.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::content::MANIFEST_TYPE;
use crate::latency::Latencies;

const HEAD_BYTES_MAX: usize = 8 << 10;
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks over so many connections, one request at a time on each; yields the latencies and the time it took.
pub(crate) async fn run(
    address: SocketAddr,
    path: &str,
    connections: u64,
    time: Duration,
) -> anyhow::Result<(Latencies, Duration)> {
    let start = Instant::now();
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {MANIFEST_TYPE}\r\n\r\n");
    let clients = (0..connections).map(|_| tokio::spawn(client(address, request.clone(), time)));
    let mut all = Latencies::new()?;
    for latencies in futures::future::try_join_all(clients).await? {
        all.add(&latencies?)?;
    }
    Ok((all, start.elapsed()))
}

async fn client(address: SocketAddr, request: String, time: Duration) -> anyhow::Result<Latencies> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Latencies::new()?;
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let head = tokio::time::timeout(DEADLINE, head(&mut stream, &mut buffer)).await;
        check(head.with_context(|| format!("no answer within {DEADLINE:?}"))??)?;
        latencies.record(begin.elapsed());
    }
    Ok(latencies)
}

/// The head of one answer, and nothing behind it.
async fn head<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> anyhow::Result<&'a [u8]> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            bail!("the connection was closed in the midst of an answer");
        }
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            return Ok(&buffer[..filled]);
        }
    }
}

fn check(head: &[u8]) -> anyhow::Result<()> {
    if head.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    bail!("an answer to HEAD is {:?}", String::from_utf8_lossy(&head[..head.len().min(60)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_right() {
        check(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(check(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
    }
}

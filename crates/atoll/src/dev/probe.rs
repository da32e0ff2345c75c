//! Looking at addresses from outside, as a client would.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::bail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Topology;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Refuses a topology with addresses that something else listens on, naming each.
pub(super) fn refuse_occupied(topology: &Topology) -> anyhow::Result<()> {
    let addresses = topology.nodes.iter().flat_map(|n| n.addresses().map(|(key, a)| (n, key, a)));
    let nodes = addresses.map(|(node, key, a)| (format!("{key} of {}", node.name), a));
    let stores = topology.stores.iter().map(|store| (format!("the store of {}", store.region), store.s3));
    let taken: Vec<String> = nodes
        .chain(stores)
        .filter_map(|(user, a)| TcpListener::bind(a).err().map(|e| format!("{a} ({user}): {e}")))
        .collect();
    if !taken.is_empty() {
        bail!(
            "cannot listen on {}; end what listens there (another `dev`?), or give other addresses with --topology",
            taken.join(", ")
        );
    }
    Ok(())
}

/// Whether something listens.
pub(super) async fn listens(address: SocketAddr) -> bool {
    matches!(timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Whether a node answers at all, whatever it says.
pub(super) async fn answers(address: SocketAddr) -> bool {
    matches!(timeout(PROBE_TIMEOUT, status(address, "/livez")).await, Ok(Ok(_)))
}

/// Whether a node takes pushes.
pub(super) async fn takes_pushes(address: SocketAddr) -> bool {
    matches!(timeout(PROBE_TIMEOUT, status(address, "/readyz?for=push")).await, Ok(Ok(200)))
}

/// The status of a GET: all that is needed of HTTP here.
async fn status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(32).read_to_end(&mut answer).await?;
    let code = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let code = code.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
    code.ok_or_else(|| std::io::Error::other("not an HTTP answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occupied_port_is_named_with_its_user() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut topology = Topology::load(None).unwrap();
        topology.nodes.truncate(1);
        topology.nodes[0].grpc = held.local_addr().unwrap();
        let refusal = refuse_occupied(&topology).unwrap_err().to_string();
        assert!(refusal.contains(&format!("{} (grpc of us-east-1)", held.local_addr().unwrap())), "{refusal}");
    }

    #[tokio::test]
    async fn readiness_is_what_the_status_says() {
        for (answer, ready) in [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 503 No\r\n\r\n", false), ("hm", false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            assert_eq!(takes_pushes(address).await, ready, "{answer}");
            server.await.unwrap();
        }
    }
}

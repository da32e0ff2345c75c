//! Free ports of this machine. They are handed out in ascending order below the range that the system takes ports of
//! clients from, so that neither a connection nor another cluster takes one meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, bail};

const FIRST: u16 = 11_000;
const LAST: u16 = 32_000;
const TRIES_MAX: usize = 2_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address that nothing listens on.
pub(crate) fn free() -> anyhow::Result<SocketAddr> {
    // Processes that run at once begin at places of their own.
    let offset = (std::process::id() % 200) as u16 * 100;
    for _ in 0..TRIES_MAX {
        let port = FIRST + (offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % (LAST - FIRST);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port between {FIRST} and {LAST} is free; end what listens there")
}

/// Listens on such an address, in the runtime of the caller.
pub(crate) async fn listener() -> anyhow::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(free()?).await.context("cannot listen on a port that was free")
}

//! Free ports of this machine. They are handed out in ascending order below the range that the system takes ports of
//! clients from, so that no connection takes one meanwhile; and out of a block that no other process of this program
//! hands out, so that no other cluster takes the port of a node that is down.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, bail};

const FIRST: u16 = 11_000;
const BLOCK_PORTS: u16 = 500;
const BLOCKS: u16 = 42;

/// Ports of this process alone.
struct Block {
    first: u16,
    next: AtomicU16,
    /// Listens on the first port of the block for as long as the process lives: the sign that it is taken.
    _taken: TcpListener,
}

static BLOCK: OnceLock<Option<Block>> = OnceLock::new();

/// An address that nothing listens on.
pub(crate) fn free() -> anyhow::Result<SocketAddr> {
    let Some(block) = BLOCK.get_or_init(Block::take) else {
        bail!("no block of ports between {FIRST} and {} is free; end other runs", FIRST + BLOCKS * BLOCK_PORTS)
    };
    for _ in 1..BLOCK_PORTS {
        let offset = 1 + block.next.fetch_add(1, Ordering::Relaxed) % (BLOCK_PORTS - 1);
        let address = address(block.first + offset);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port between {} and {} is free; end what listens there", block.first, block.first + BLOCK_PORTS)
}

/// Listens on such an address, in the runtime of the caller.
pub(crate) async fn listener() -> anyhow::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(free()?).await.context("cannot listen on a port that was free")
}

impl Block {
    /// Takes one that no process has.
    fn take() -> Option<Self> {
        (0..BLOCKS).find_map(|block| {
            let first = FIRST + block * BLOCK_PORTS;
            let taken = TcpListener::bind(address(first)).ok()?;
            Some(Self { first, next: AtomicU16::new(0), _taken: taken })
        })
    }
}

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_hand_out_the_same_port() {
        let (ours, theirs) = (Block::take().unwrap(), Block::take().unwrap());
        assert!(ours.first.abs_diff(theirs.first) >= BLOCK_PORTS);
        let first = ours.first;
        drop(ours);
        assert!(TcpListener::bind(address(first)).is_ok(), "a block that is given back can be taken");
    }

    #[test]
    fn ports_differ_until_all_were_handed_out() {
        let ports: std::collections::BTreeSet<_> = (0..100).map(|_| free().unwrap().port()).collect();
        assert_eq!(ports.len(), 100);
    }
}

//! All ports are bound before anything else is done, so that an occupied one costs nothing.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::ListenSection;

/// A node's sockets.
pub(crate) struct Listeners {
    pub(crate) http: TcpListener,
    pub(crate) grpc: TcpListener,
    pub(crate) admin: TcpListener,
}

impl Listeners {
    pub(crate) async fn bind(listen: &ListenSection) -> anyhow::Result<Self> {
        Ok(Self {
            http: bind("http", listen.http).await?,
            grpc: bind("grpc", listen.grpc).await?,
            admin: bind("admin", listen.admin).await?,
        })
    }
}

async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} ({what}): end what uses it, or change listen.{what} in the configuration")
    })
}

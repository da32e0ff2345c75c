//! One node's way to another: a proxy that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way that carries calls of one node to another, and their answers.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Link {
    /// To whoever listens at an address, now or later.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let cut = watch::Sender::new(false);
        let target: Arc<str> = target.into();
        let state = cut.clone();
        tokio::spawn(async move {
            while let Ok((incoming, _)) = listener.accept().await {
                tokio::spawn(carry(incoming, target.clone(), state.subscribe()));
            }
        });
        Self { address, cut }
    }

    /// Cuts it, with what is under way, or mends it.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

/// A connection; while the way is cut it is taken and hears nothing.
async fn carry(mut incoming: TcpStream, target: Arc<str>, mut cut: watch::Receiver<bool>) {
    if *cut.borrow() {
        let _ = cut.wait_for(|cut| !cut).await;
        return;
    }
    let carried = async {
        let mut outgoing = TcpStream::connect(&*target).await?;
        incoming.set_nodelay(true)?;
        outgoing.set_nodelay(true)?;
        copy_bidirectional(&mut incoming, &mut outgoing).await
    };
    tokio::select! {
        _ = carried => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

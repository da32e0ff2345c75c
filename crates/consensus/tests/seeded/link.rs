//! One node's way to another: a proxy that can be cut, made slow, and muted at one of its ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, watch};
use tokio::time::sleep;

/// Bytes that are carried at once.
const CARRIED_MAX: usize = 16 << 10;

/// Where a node listens, while it runs.
pub(crate) type Door = watch::Receiver<Option<SocketAddr>>;

/// What is wrong with a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// The schedule has cut it.
    cut: bool,
    /// One of its ends has crashed: nothing of it may come through any more.
    severed: bool,
    /// Bytes in a second of each connection that it carries at most.
    pace: Option<u32>,
}

impl State {
    fn is_open(&self) -> bool {
        !self.cut && !self.severed
    }
}

/// Whether one of the ends is heard no more. Locked while some bytes of it are handed on, so that none are once it is
/// set.
type Muted = Arc<RwLock<bool>>;

/// A way that carries calls of one node to another, and their answers.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    carries: Carries,
}

/// What a way and its connections share.
#[derive(Clone, Default)]
struct Carries {
    state: watch::Sender<State>,
    /// How many connections there are.
    count: watch::Sender<usize>,
    caller: Muted,
    callee: Muted,
}

impl Link {
    /// To whoever is behind a door, now or later.
    pub(crate) async fn to(door: Door) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let carries = Carries::default();
        let link = Self { address, carries: carries.clone() };
        tokio::spawn(async move {
            while let Ok((incoming, _)) = listener.accept().await {
                tokio::spawn(carries.clone().carry(incoming, door.clone()));
            }
        });
        link
    }

    /// Cuts it, with what is under way, or mends it.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.carries.state.send_modify(|state| state.cut = cut);
    }

    /// Makes it slow, or as fast as it can be.
    pub(crate) fn set_pace(&self, pace: Option<u32>) {
        self.carries.state.send_modify(|state| state.pace = pace);
    }

    /// Nothing that the caller says is heard any more once this returns.
    pub(crate) async fn mute_caller(&self) {
        *self.carries.caller.write().await = true;
    }

    /// The same for the one who is called.
    pub(crate) async fn mute_callee(&self) {
        *self.carries.callee.write().await = true;
    }

    /// Cuts it for the crash of one of its ends; nothing comes through once this returns.
    pub(crate) async fn sever(&self) {
        self.carries.state.send_modify(|state| state.severed = true);
        let mut count = self.carries.count.subscribe();
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// The end that has crashed is there again.
    pub(crate) async fn join(&self) {
        *self.carries.caller.write().await = false;
        *self.carries.callee.write().await = false;
        self.carries.state.send_modify(|state| state.severed = false);
    }
}

/// Counts a connection for as long as it is carried.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(count: watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Carries {
    /// A connection; while the way is cut it is taken and hears nothing.
    async fn carry(self, incoming: TcpStream, door: Door) {
        let mut state = self.state.subscribe();
        // Counted before it is looked at: who severs the way sees it, or it sees that the way is severed.
        let counted = Counted::new(self.count.clone());
        if !state.borrow().is_open() {
            drop(counted);
            let _ = state.wait_for(State::is_open).await;
            return;
        }
        tokio::select! {
            () = self.pass(incoming, door) => {}
            _ = state.wait_for(|state| !state.is_open()) => {}
        }
    }

    async fn pass(&self, incoming: TcpStream, door: Door) {
        let target = *door.borrow();
        let Some(target) = target else { return };
        let Ok(outgoing) = TcpStream::connect(target).await else { return };
        let _ = (incoming.set_nodelay(true), outgoing.set_nodelay(true));
        let ((from_caller, to_caller), (from_callee, to_callee)) = (incoming.into_split(), outgoing.into_split());
        let calls = self.pump(from_caller, to_callee, &self.caller);
        tokio::join!(calls, self.pump(from_callee, to_caller, &self.callee));
    }

    /// One direction, until its beginning ends it or its end is gone.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, muted: &Muted) {
        let mut buffer = vec![0; CARRIED_MAX];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let muted = muted.read().await;
            if *muted {
                drop(muted);
                // The connection stands until the way is severed.
                return std::future::pending().await;
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            drop(muted);
            let pace = self.state.borrow().pace;
            if let Some(pace) = pace {
                sleep(Duration::from_secs_f64(count as f64 / f64::from(pace))).await;
            }
        }
        let _ = to.shutdown().await;
    }
}

//! A node as a process would be: all of it runs on threads of its own, which end with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atoll_consensus::{Group, GroupOptions, OnFatal, Timing, grpc_server};
use atoll_storage::{DataFolder, FolderIdentity};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::trouble::Troubles;

/// Nothing that ends takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node is started with.
pub(crate) struct Start {
    /// Its threads' name.
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) identity: FolderIdentity,
    /// All but what to do when it must end.
    pub(crate) options: GroupOptions,
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) handle: Handle,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    threads: Threads,
}

/// The way to ask a node.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) group: Group,
    threads: tokio::runtime::Handle,
    /// Cancelled when the node ends abruptly: what it says from then on was never said.
    gone: CancellationToken,
    asked: Arc<AtomicUsize>,
}

impl Handle {
    /// Has something asked by the node's own threads; `None` when the node was gone before it answered.
    pub(crate) async fn ask<T, F>(&self, ask: impl FnOnce(Group) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let asking = self.threads.spawn(ask(self.group.clone()));
        let answer = tokio::select! {
            biased;
            () = self.gone.cancelled() => None,
            answer = asking => answer.ok(),
        };
        self.asked.fetch_sub(1, Ordering::SeqCst);
        answer.filter(|_| !self.gone.is_cancelled())
    }

    /// Nothing that it says counts any more.
    pub(crate) fn silence(&self) {
        self.gone.cancel();
    }

    /// How much is being asked at this moment.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Node {
    pub(crate) async fn start(start: Start, troubles: &Arc<Troubles>) -> Self {
        let threads = Threads::new(&start.name);
        let (gone, stop) = (CancellationToken::new(), CancellationToken::new());
        let options = GroupOptions { on_fatal: on_fatal(&start.name, &gone, troubles), ..start.options };
        let group = open(start.data, start.identity, options);
        let (group, listener) = threads.run(async { (group.await, listener().await) }).await;
        let address = listener.local_addr().expect("an address");
        threads.handle().spawn(serve(group.clone(), listener, stop.clone()));
        threads.handle().spawn(watch_revisions(start.name, group.watch_applied(), troubles.clone()));
        let handle = Handle { group, threads: threads.handle().clone(), gone, asked: Arc::default() };
        Self { handle, address, stop, threads }
    }

    /// Ends it in peace.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let _ = self.handle.ask(|group| async move { group.shutdown().await }).await;
        self.handle.silence();
        drop(self.handle);
        self.threads.end().await;
    }

    /// Ends it with no word to anybody: every task is dropped where it stands.
    pub(crate) async fn abandon(self) {
        self.handle.silence();
        drop(self.handle);
        self.threads.end().await;
    }
}

/// A process would end.
fn on_fatal(name: &str, gone: &CancellationToken, troubles: &Arc<Troubles>) -> OnFatal {
    let (name, gone, troubles) = (name.to_owned(), gone.clone(), troubles.clone());
    Arc::new(move |why: &str| {
        if !gone.is_cancelled() {
            troubles.tell(format!("{name} must end: {why}"));
        }
    })
}

async fn open(data: PathBuf, identity: FolderIdentity, options: GroupOptions) -> Group {
    let until = Instant::now() + PATIENCE;
    // What runs on after its threads have ended may hold the stores of an earlier run for a moment longer.
    let folder = loop {
        match DataFolder::open(data.clone(), &identity) {
            Ok(folder) => break folder,
            Err(error) => assert!(Instant::now() < until, "the folder stays locked: {error}"),
        }
        sleep(Duration::from_millis(5)).await;
    };
    Group::start(options, Arc::new(folder)).await.expect("the node starts")
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

async fn serve(group: Group, listener: TcpListener, stop: CancellationToken) {
    let serving = grpc_server(&Timing::LOCAL).add_routes(group.services());
    drop(group);
    let incoming = TcpListenerStream::new(listener);
    serving.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await.expect("it serves");
}

/// What is applied never goes back while the node runs.
async fn watch_revisions(name: String, mut applied: tokio::sync::watch::Receiver<u64>, troubles: Arc<Troubles>) {
    let mut last = *applied.borrow_and_update();
    while applied.changed().await.is_ok() {
        let next = *applied.borrow_and_update();
        if next < last {
            troubles.tell(format!("{name} has applied {next} after {last}"));
        }
        last = next;
    }
}

/// A node's own threads.
struct Threads(Option<Runtime>);

impl Threads {
    fn new(name: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build();
        Self(Some(runtime.expect("threads")))
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("they have not ended").handle()
    }

    async fn run<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        self.handle().spawn(what).await.expect("the node runs")
    }

    /// Drops all that runs on them, and waits for what blocks.
    async fn end(mut self) {
        let Some(runtime) = self.0.take() else { return };
        spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.expect("they end");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime must not be waited for by a task, as it would be when a failed run drops it.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

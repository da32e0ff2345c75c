//! Nodes of a cluster in one process, over real gRPC on ephemeral ports of the loopback.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_consensus::{
    Clock, Group, GroupError, GroupOptions, Member, Mode, Proposal, ProposeError, Retention, SystemClock, Timing,
    grpc_server,
};
use atoll_metadata::{Applied, Command, Expected, KvRead, ManifestBody, PutManifest, TagUpdate, read};
use atoll_storage::{DataFolder, FolderIdentity, Resources};
use atoll_types::{ClusterId, Digest, NodeId, RequestId, Revision};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A cluster of numbered nodes; some may be down.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) members: Vec<Member>,
    pub(crate) retention: Retention,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timing: Timing,
    dir: TempDir,
    nodes: Vec<Option<Node>>,
    /// Held so that nobody else takes a port before its node starts.
    reserved: Vec<Option<std::net::TcpListener>>,
}

struct Node {
    group: Group,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Cluster {
    /// Members with addresses, none of them started.
    pub(crate) fn new(count: usize) -> Self {
        let reserved: Vec<_> =
            (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let member = |(index, listener): (usize, &std::net::TcpListener)| Member {
            node: NodeId(index as u64 + 1),
            name: format!("node-{}", index + 1).parse().expect("a name"),
            region: format!("region-{}", index + 1).parse().expect("a name"),
            grpc_address: listener.local_addr().expect("an address").to_string(),
        };
        Self {
            id: ClusterId::random(),
            members: reserved.iter().enumerate().map(member).collect(),
            retention: Retention::default(),
            clock: Arc::new(SystemClock::default()),
            timing: Timing::LOCAL,
            dir: tempfile::tempdir().expect("a folder"),
            nodes: (0..count).map(|_| None).collect(),
            reserved: reserved.into_iter().map(Some).collect(),
        }
    }

    /// All nodes started, the group formed, and the cluster named.
    pub(crate) async fn formed(count: usize) -> Self {
        let mut cluster = Self::new(count);
        for index in 0..count {
            cluster.start(index).await;
        }
        cluster.form().await;
        cluster
    }

    /// Every running node forms the group, as at the start of a declared topology.
    pub(crate) async fn form(&self) {
        for index in self.running() {
            self.node(index).initialize(&self.members).await.expect("the group is formed");
        }
        for index in self.running() {
            self.node(index).wait_ready(soon()).await.expect("a first barrier");
        }
        let name = Command::InitCluster { cluster: self.id, epoch: 0 };
        let first = *self.running().first().expect("a node runs");
        self.propose(first, name).await.expect("the cluster is named");
    }

    pub(crate) fn node(&self, index: usize) -> &Group {
        &self.nodes[index].as_ref().expect("the node runs").group
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].is_some()).collect()
    }

    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("node-{}", index + 1))
    }

    pub(crate) fn options(&self, index: usize) -> GroupOptions {
        let on_fatal = Arc::new(move |why: &str| panic!("node {index} must end: {why}"));
        GroupOptions {
            timing: self.timing,
            retention: self.retention,
            clock: self.clock.clone(),
            resources: Resources::new(4 << 20, 8 << 20),
            ..GroupOptions::new(self.id, 0, self.members[index].clone(), on_fatal)
        }
    }

    pub(crate) async fn start(&mut self, index: usize) {
        let options = self.options(index);
        self.start_with(index, options).await;
    }

    pub(crate) async fn start_with(&mut self, index: usize, options: GroupOptions) {
        self.reserved[index] = None;
        let folder = self.open(index).await;
        let listener = TcpListener::bind(&self.members[index].grpc_address).await.expect("the node's port is free");
        let group = Group::start(options, Arc::new(folder)).await.expect("the node starts");
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = grpc_server(&self.timing).add_routes(group.services());
        let incoming = TcpListenerStream::new(listener);
        let server = tokio::spawn(async move {
            serving.serve_with_incoming_shutdown(incoming, stopped).await.expect("it serves");
        });
        self.nodes[index] = Some(Node { group, stop, server });
    }

    /// Starts a node that is expected to refuse.
    pub(crate) async fn try_start(&self, index: usize) -> Result<(), GroupError> {
        let folder = self.open(index).await;
        Group::start(self.options(index), Arc::new(folder)).await.map(drop)
    }

    /// Raft's own tasks may hold the stores of an earlier run for a moment longer.
    async fn open(&self, index: usize) -> DataFolder {
        let member = &self.members[index];
        let identity = FolderIdentity { cluster: Some(self.id), node: member.node, name: member.name.clone() };
        eventually("a data folder", || DataFolder::open(self.data(index), &identity).ok()).await
    }

    pub(crate) async fn stop(&mut self, index: usize) {
        let node = self.nodes[index].take().expect("the node runs");
        node.stop.cancel();
        // Streams of peers end with the group, and the server with them.
        node.group.shutdown().await;
        node.server.await.expect("the server ends");
    }

    pub(crate) async fn propose(&self, index: usize, command: Command) -> Result<Applied, ProposeError> {
        self.propose_as(index, RequestId::random(), command, false).await
    }

    pub(crate) async fn propose_as(
        &self,
        index: usize,
        request: RequestId,
        command: Command,
        may_be_retry: bool,
    ) -> Result<Applied, ProposeError> {
        let seen = self.node(index).applied();
        self.propose_seen(index, request, command, may_be_retry, seen).await
    }

    pub(crate) async fn propose_seen(
        &self,
        index: usize,
        request: RequestId,
        command: Command,
        may_be_retry: bool,
        seen: Revision,
    ) -> Result<Applied, ProposeError> {
        let proposal = Proposal {
            command,
            request,
            seen,
            may_be_retry,
            actor: String::new(),
            client_address: String::new(),
            deadline: Instant::now() + Duration::from_secs(30),
        };
        self.node(index).propose(proposal).await
    }

    /// The node that leads, as all running nodes see it.
    pub(crate) async fn leader(&self) -> usize {
        eventually("one leader", || {
            let seen: Vec<_> = self.running().into_iter().map(|index| self.node(index).leader()).collect();
            let first = *seen.first()?;
            let leader = first.filter(|_| seen.iter().all(|leader| *leader == first))?;
            self.running().into_iter().find(|index| self.members[*index].node == leader)
        })
        .await
    }

    /// Names of all repositories at a node.
    pub(crate) fn repositories(&self, index: usize) -> Vec<String> {
        let names = self.read(index, |kv| read::repositories(kv, None, usize::MAX));
        names.into_iter().map(|name| name.to_string()).collect()
    }

    pub(crate) fn read<R>(&self, index: usize, mut read: impl FnMut(&dyn KvRead) -> read::Result<R>) -> R {
        let mut result = None;
        // It is run again where a read in it fails since the state has moved on.
        self.node(index).read_with(&mut |kv| result = Some(read(kv))).expect("the state can be read");
        result.expect("it was read").expect("readable")
    }

    /// Waits until a node is in a mode.
    pub(crate) async fn wait_mode(&self, index: usize, wanted: Mode) {
        let mut mode = self.node(index).watch_mode();
        let waited = tokio::time::timeout(PATIENCE, mode.wait_for(|mode| *mode == wanted)).await;
        waited.expect("the mode changes in time").expect("the node runs");
    }

    /// Waits until all running nodes have applied the same, and compares their hashes.
    pub(crate) async fn assert_equal(&self) {
        let newest = self.running().into_iter().map(|index| self.node(index).applied()).max().expect("a node runs");
        let mut hashes = Vec::new();
        for index in self.running() {
            let status = self.node(index).status_at(Some(newest), soon()).await;
            hashes.push(status.state_hash.expect("the hash is kept"));
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "the nodes differ at {newest}: {hashes:?}");
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = soon();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A command that pushes a manifest into a repository of this name.
pub(crate) fn push(repository: &str) -> Command {
    let body = Bytes::from(format!("the manifest of {repository}"));
    Command::PutManifest(Box::new(PutManifest {
        repository: repository.parse().expect("a name"),
        digest: Digest::sha256(&body),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        body: ManifestBody::Inline(body),
        references: Vec::new(),
        subject: None,
        artifact_type: String::new(),
        annotations: None,
        tags: vec![TagUpdate { tag: "latest".parse().expect("a tag"), expected: Expected::Any }],
    }))
}

/// Runs a test to its end, or fails it.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE * 3, test).await.expect("the test ends in time")
}

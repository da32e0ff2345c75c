//! Three nodes in one process, each with its own ways to the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_consensus::{Group, GroupOptions, Member, Proposal, Timing, grpc_server};
use atoll_metadata::{Command, read};
use atoll_storage::{DataFolder, FolderIdentity, Resources};
use atoll_types::{ClusterId, Digest, NodeId, RepositoryName, RequestId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::link::Link;

/// Nothing takes longer once all is mended.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    id: ClusterId,
    members: Vec<Member>,
    /// From, to.
    links: Vec<Vec<Option<Link>>>,
    nodes: Vec<Mutex<Option<Node>>>,
    dir: TempDir,
}

struct Node {
    group: Group,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

impl Cluster {
    pub(crate) async fn formed(count: usize) -> Self {
        let reserved: Vec<_> =
            (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let member = |(index, listener): (usize, &std::net::TcpListener)| Member {
            node: NodeId(index as u64 + 1),
            name: format!("node-{}", index + 1).parse().expect("a name"),
            region: format!("region-{}", index + 1).parse().expect("a name"),
            grpc_address: listener.local_addr().expect("an address").to_string(),
        };
        let members: Vec<Member> = reserved.iter().enumerate().map(member).collect();
        let mut links = Vec::new();
        for from in 0..count {
            let mut ways = Vec::new();
            for (to, member) in members.iter().enumerate() {
                ways.push(if from == to { None } else { Some(Link::to(member.grpc_address.clone()).await) });
            }
            links.push(ways);
        }
        drop(reserved);
        let nodes = (0..count).map(|_| Mutex::new(None)).collect();
        let dir = tempfile::tempdir().expect("a folder");
        let cluster = Self { id: ClusterId::random(), members, links, nodes, dir };
        for index in 0..count {
            cluster.start(index).await;
        }
        for index in 0..count {
            cluster.group(index).await.expect("it runs").initialize(&cluster.members).await.expect("it is formed");
        }
        cluster.settle().await;
        let group = cluster.group(0).await.expect("it runs");
        let name = Command::InitCluster { cluster: cluster.id, epoch: 0 };
        let (request, seen, deadline) = (RequestId::random(), group.applied(), soon());
        let (actor, client_address) = (String::new(), String::new());
        let named = Proposal { command: name, request, seen, may_be_retry: false, actor, client_address, deadline };
        group.propose(named).await.expect("the cluster is named");
        cluster
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn data(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("node-{}", index + 1))
    }

    fn options(&self, index: usize) -> GroupOptions {
        let ways = self.links[index].iter().zip(&self.members);
        let peers = ways.filter_map(|(link, member)| Some((member.node, link.as_ref()?.address.to_string())));
        GroupOptions {
            timing: Timing::LOCAL,
            resources: Resources::new(4 << 20, 8 << 20),
            peer_addresses: peers.collect(),
            ..GroupOptions::new(
                self.id,
                0,
                self.members[index].clone(),
                Arc::new(move |why: &str| panic!("node {index} must end: {why}")),
            )
        }
    }

    pub(crate) async fn start(&self, index: usize) {
        let mut node = self.nodes[index].lock().await;
        if node.is_some() {
            return;
        }
        let member = &self.members[index];
        let identity = FolderIdentity { cluster: Some(self.id), node: member.node, name: member.name.clone() };
        // Raft's own tasks may hold the stores of an earlier run for a moment longer.
        let (folder, until) = (self.data(index), soon());
        let folder = loop {
            match DataFolder::open(folder.clone(), &identity) {
                Ok(folder) => break folder,
                Err(error) => assert!(Instant::now() < until, "the folder stays locked: {error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        let listener = TcpListener::bind(&member.grpc_address).await.expect("the node's port is free");
        let group = Group::start(self.options(index), Arc::new(folder)).await.expect("the node starts");
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = grpc_server(&Timing::LOCAL).add_routes(group.services());
        let incoming = TcpListenerStream::new(listener);
        let server = tokio::spawn(async move {
            serving.serve_with_incoming_shutdown(incoming, stopped).await.expect("it serves");
        });
        *node = Some(Node { group, stop, server });
    }

    pub(crate) async fn stop(&self, index: usize) {
        let Some(node) = self.nodes[index].lock().await.take() else { return };
        node.stop.cancel();
        node.group.shutdown().await;
        // A connection over a way that is cut may keep the server waiting.
        node.server.abort();
        let _ = node.server.await;
    }

    pub(crate) async fn stop_all(&self) {
        for index in 0..self.len() {
            self.stop(index).await;
        }
    }

    pub(crate) async fn group(&self, index: usize) -> Option<Group> {
        self.nodes[index].lock().await.as_ref().map(|node| node.group.clone())
    }

    /// Cuts or mends the way of one node to another.
    pub(crate) fn set_cut(&self, from: usize, to: usize, cut: bool) {
        if let Some(link) = &self.links[from][to] {
            link.set_cut(cut);
        }
    }

    /// Hands the lead to a node, if there is a leader that can. Whether it was.
    pub(crate) async fn hand_over(&self, to: usize) -> bool {
        for index in 0..self.len() {
            let Some(group) = self.group(index).await else { continue };
            if group.leader() == Some(group.node()) && index != to {
                let deadline = Instant::now() + Duration::from_secs(3);
                return group.transfer_leader(self.members[to].node, deadline).await.is_ok();
            }
        }
        false
    }

    /// All ways are mended, and all nodes run.
    pub(crate) async fn mend(&self) {
        for from in 0..self.len() {
            (0..self.len()).for_each(|to| self.set_cut(from, to, false));
        }
        for index in 0..self.len() {
            self.start(index).await;
        }
    }

    /// Waits until every node has passed a barrier.
    pub(crate) async fn settle(&self) {
        for index in 0..self.len() {
            let group = self.group(index).await.expect("it runs");
            group.wait_ready(soon()).await.expect("a first barrier");
            group.barrier(soon()).await.expect("a barrier");
        }
    }

    /// Where the tag of a repository is at a node, as a digest.
    pub(crate) async fn version_at(&self, group: &Group, repository: &RepositoryName) -> Option<Digest> {
        let (tag, mut found) = ("latest".parse().expect("a tag"), Ok(None));
        // It is run again where a read in it fails since the state has moved on.
        group.read_with(&mut |kv| found = read::tag(kv, repository, &tag)).expect("the state can be read");
        found.expect("readable").map(|(digest, _)| digest)
    }

    /// The same at a node that runs.
    pub(crate) fn version(&self, index: usize, repository: &RepositoryName) -> Option<Digest> {
        let node = self.nodes[index].try_lock().expect("nobody else is left");
        let group = &node.as_ref().expect("it runs").group;
        futures::executor::block_on(self.version_at(group, repository))
    }

    /// All nodes have the same state at the newest revision.
    pub(crate) async fn assert_equal(&self) {
        let mut groups = Vec::new();
        for index in 0..self.len() {
            groups.push(self.group(index).await.expect("it runs"));
        }
        let newest = groups.iter().map(Group::applied).max().expect("a node");
        let mut hashes = Vec::new();
        for group in &groups {
            let status = timeout(PATIENCE, group.status_at(Some(newest), soon())).await.expect("it answers");
            hashes.push(status.state_hash.expect("the hash is kept"));
            let (revision, hash) = group.recompute_hash().await.expect("the state can be read");
            assert_eq!(group.state_hash_at(revision), Some(hash), "the hash that is kept is that of all pairs");
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "the nodes differ at {newest}: {hashes:?}");
    }
}

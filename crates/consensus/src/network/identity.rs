//! Who calls whom, on every call between nodes: cluster id and epoch, the caller with its folder's incarnation, and the
//! callee with the incarnation that the caller knows it by.

use std::sync::Arc;

use atoll_fault::planted;
use atoll_types::{ClusterId, Incarnation, NodeId};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::fence::Fence;

const CLUSTER: &str = "atoll-cluster";
const EPOCH: &str = "atoll-epoch";
const FROM: &str = "atoll-from";
const FROM_INCARNATION: &str = "atoll-from-incarnation";
const TO: &str = "atoll-to";
/// Absent while the caller knows none.
const TO_INCARNATION: &str = "atoll-to-incarnation";
/// In a refusal: who has lost its data folder, [`CALLER`] or [`CALLEE`].
const LOST_FOLDER: &str = "atoll-lost-folder";
const CALLER: &str = "caller";
const CALLEE: &str = "callee";

/// Which cluster a node belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    cluster: MetadataValue<Ascii>,
    epoch: MetadataValue<Ascii>,
}

impl Identity {
    pub(crate) fn new(cluster: ClusterId, epoch: u64) -> Self {
        let hex: String = cluster.to_string();
        // An id is hexadecimal digits, which any metadata value may hold.
        let cluster = MetadataValue::try_from(hex).unwrap_or_else(|_| MetadataValue::from_static("invalid"));
        Self { cluster, epoch: MetadataValue::from(epoch) }
    }

    fn matches(&self, metadata: &MetadataMap) -> bool {
        metadata.get(CLUSTER) == Some(&self.cluster) && metadata.get(EPOCH) == Some(&self.epoch)
    }
}

/// Stamps every call to one peer.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(super) identity: Identity,
    pub(super) fence: Arc<Fence>,
    pub(super) to: NodeId,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.fence.closed().is_cancelled() {
            return Err(lost(CALLER, self.fence.lost()));
        }
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, self.identity.cluster.clone());
        metadata.insert(EPOCH, self.identity.epoch.clone());
        metadata.insert(FROM, MetadataValue::from(self.fence.node().0));
        metadata.insert(FROM_INCARNATION, value(self.fence.own()));
        metadata.insert(TO, MetadataValue::from(self.to.0));
        if let Some(registered) = self.fence.registered(self.to) {
            metadata.insert(TO_INCARNATION, value(registered));
        }
        Ok(request)
    }
}

/// Refuses calls of another cluster or epoch, calls that are meant for another node, and all that would have a node act
/// whose data folder was emptied. What a caller does not say is not held against it: it does not know it yet, or is of
/// an earlier build.
#[derive(Clone, Debug)]
pub(crate) struct Callee {
    pub(crate) identity: Identity,
    pub(crate) fence: Arc<Fence>,
}

impl Interceptor for Callee {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let call = request.metadata();
        if !self.identity.matches(call) {
            return Err(self.other_cluster(call));
        }
        if self.fence.closed().is_cancelled() {
            return Err(lost(CALLEE, self.fence.lost()));
        }
        if !planted!("fence_unchecked") {
            self.check_caller(call)?;
            self.check_self(call)?;
        }
        Ok(request)
    }
}

impl Callee {
    fn other_cluster(&self, call: &MetadataMap) -> Status {
        Status::failed_precondition(format!(
            "this node is of cluster {} epoch {}, the call is of cluster {} epoch {}; check the addresses of the peers",
            self.identity.cluster.to_str().unwrap_or_default(),
            self.identity.epoch.to_str().unwrap_or_default(),
            text(call, CLUSTER).unwrap_or("none"),
            text(call, EPOCH).unwrap_or("none"),
        ))
    }

    /// Before anything else that the call says: who has lost its folder is believed nothing.
    fn check_caller(&self, call: &MetadataMap) -> Result<(), Status> {
        let Some(from) = node(call, FROM) else { return Ok(()) };
        let registered = self.fence.registered(from);
        if text(call, FROM_INCARNATION).is_none()
            || registered.is_none()
            || incarnation(call, FROM_INCARNATION) == registered
        {
            return Ok(());
        }
        let why = format!(
            "node {from} is registered with another data folder than it has now: it was emptied or replaced. Mount the \
             old one, or add the node as a new member under a new number and name"
        );
        tracing::warn!(node = from.0, "a call is refused: its node has lost its data folder");
        Err(lost(CALLER, &why))
    }

    fn check_self(&self, call: &MetadataMap) -> Result<(), Status> {
        let own = self.fence.node();
        // An address that leads to the wrong node must not make that one take itself for lost.
        if let Some(to) = node(call, TO).filter(|to| *to != own) {
            let why = format!("this is node {own}, the call is meant for node {to}; check the addresses of the peers");
            return Err(Status::failed_precondition(why));
        }
        let Some(meant) = text(call, TO_INCARNATION) else { return Ok(()) };
        // What is no incarnation says nothing of this node's folder.
        let Ok(meant) = meant.parse::<Incarnation>() else {
            return Err(Status::invalid_argument(format!("{TO_INCARNATION} is no incarnation")));
        };
        if meant == self.fence.own() {
            return Ok(());
        }
        self.fence.close();
        Err(lost(CALLEE, self.fence.lost()))
    }
}

/// Whether the caller knows this node by its incarnation: whether it has registered, as the caller sees it.
pub(crate) fn knows_callee(call: &MetadataMap) -> bool {
    call.contains_key(TO_INCARNATION)
}

/// Whether a call was refused because the caller, this node, has lost its data folder.
pub(crate) fn caller_is_lost(status: &Status) -> bool {
    status.metadata().get(LOST_FOLDER).is_some_and(|who| who == CALLER)
}

fn lost(who: &'static str, why: &str) -> Status {
    let mut status = Status::failed_precondition(why);
    status.metadata_mut().insert(LOST_FOLDER, MetadataValue::from_static(who));
    status
}

fn value(incarnation: Incarnation) -> MetadataValue<Ascii> {
    let hex: String = incarnation.to_string();
    // It is hexadecimal digits, which any metadata value may hold.
    MetadataValue::try_from(hex).unwrap_or_else(|_| MetadataValue::from_static("invalid"))
}

fn text<'a>(call: &'a MetadataMap, key: &str) -> Option<&'a str> {
    call.get(key).map(|value| value.to_str().unwrap_or_default())
}

fn node(call: &MetadataMap, key: &str) -> Option<NodeId> {
    text(call, key).and_then(|number| number.parse().ok()).map(NodeId)
}

fn incarnation(call: &MetadataMap, key: &str) -> Option<Incarnation> {
    text(call, key).and_then(|hex| hex.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use atoll_metadata::{Command, Entry, Envelope, NodeRole, RegisterNode};
    use atoll_storage::{DataFolder, FolderIdentity, Resources, StateStore};
    use atoll_types::{RequestId, Revision, StoreId};
    use tonic::Code;

    use super::*;

    const CLUSTER_ID: ClusterId = ClusterId::from_bytes([1; 16]);

    fn folder(of: u8) -> Incarnation {
        Incarnation::from_bytes([of; 16])
    }

    /// A node with what it knows.
    struct Side {
        fence: Arc<Fence>,
        ended: Arc<AtomicUsize>,
        state: StateStore,
        _dir: tempfile::TempDir,
    }

    impl Side {
        fn new(node: u64, own: u8) -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let (id, name) = (NodeId(node), format!("n-{node}").parse().expect("a name"));
            let identity = FolderIdentity { cluster: Some(CLUSTER_ID), node: id, name };
            let data = Arc::new(DataFolder::open(dir.path(), &identity).expect("a data folder"));
            let state = StateStore::open(&data, &Resources::new(4 << 20, 8 << 20)).expect("a state");
            let ended = Arc::new(AtomicUsize::new(0));
            let count = ended.clone();
            let on_fatal: crate::OnFatal = Arc::new(move |_: &str| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let fence = Arc::new(Fence::new(id, folder(own), on_fatal, "its folder is lost".to_owned()));
            Self { fence, ended, state, _dir: dir }
        }

        /// Applies what makes these nodes known.
        fn knowing(self, nodes: &[(u64, u8)]) -> Self {
            let region: atoll_types::RegionId = "east".parse().expect("a name");
            let store = StoreId::from_bytes([3; 16]);
            let mut commands = vec![
                Command::InitCluster { cluster: CLUSTER_ID, epoch: 0 },
                Command::RegisterRegion { region: region.clone() },
                Command::SetStore { region: region.clone(), store, replaces: None },
            ];
            let register = |(number, of): &(u64, u8)| RegisterNode {
                node: NodeId(*number),
                name: format!("n-{number}").parse().expect("a name"),
                region: region.clone(),
                role: NodeRole::Voter,
                grpc_address: "g:1".into(),
                http_address: "h:1".into(),
                admin_address: "a:1".into(),
                store: Some(store),
                store_kind: "fs".into(),
                feature_level: 1,
                incarnation: Some(folder(*of)),
            };
            commands.extend(nodes.iter().map(|node| Command::RegisterNode(Box::new(register(node)))));
            for (revision, command) in (1..).zip(commands) {
                self.apply(revision, command);
            }
            self.fence.learn(&self.state).expect("the state is read");
            self
        }

        fn apply(&self, revision: u64, command: Command) {
            let envelope = Envelope {
                request: RequestId::random(),
                attempt: 0,
                seen: Revision(revision - 1),
                actor: String::new(),
                client_address: String::new(),
                origin: NodeId(1),
                trace_parent: String::new(),
                cluster: CLUSTER_ID,
                epoch: 0,
                feature_level: 1,
            };
            let entry = Entry { time_ms: 1, envelope, command };
            let applied = self.state.apply_batch(|batch| {
                let applied = atoll_metadata::apply(batch.kv(), Revision(revision), &entry)?;
                batch.entry_applied(revision, revision.to_be_bytes().to_vec())?;
                Ok(applied)
            });
            let outcome = applied.expect("it is applied").outcome;
            assert!(matches!(outcome, atoll_metadata::Outcome::Done(_)), "{outcome:?}");
        }

        /// A call to a node, as this one makes it.
        fn calls(&self, to: u64) -> Result<Request<()>, Status> {
            let identity = Identity::new(CLUSTER_ID, 0);
            Caller { identity, fence: self.fence.clone(), to: NodeId(to) }.call(Request::new(()))
        }

        /// What this node does with a call.
        fn takes(&self, call: Result<Request<()>, Status>) -> Result<Request<()>, Status> {
            let identity = Identity::new(CLUSTER_ID, 0);
            Callee { identity, fence: self.fence.clone() }.call(call?)
        }

        fn ended(&self) -> usize {
            self.ended.load(Ordering::Relaxed)
        }
    }

    fn refusal(taken: Result<Request<()>, Status>) -> (Code, String) {
        let status = taken.expect_err("it is refused");
        let who = status.metadata().get(LOST_FOLDER).map(|who| who.to_str().expect("text").to_owned());
        (status.code(), who.unwrap_or_default())
    }

    fn lost_is(who: &str) -> (Code, String) {
        (Code::FailedPrecondition, who.to_owned())
    }

    #[test]
    fn before_anybody_has_registered_nothing_is_refused() {
        let (one, two) = (Side::new(1, 1), Side::new(2, 2));
        two.takes(one.calls(2)).expect("nothing is known");
        let knows = Side::new(1, 1).knowing(&[(1, 1)]);
        let call = two.takes(knows.calls(2)).expect("the callee is not known yet");
        assert!(!knows_callee(call.metadata()));
        knows.takes(two.calls(1)).expect("the caller is not known yet");
        assert_eq!((one.ended(), two.ended(), knows.ended()), (0, 0, 0));
    }

    #[test]
    fn registered_nodes_talk_to_each_other() {
        let both = [(1, 1), (2, 2)];
        let (one, two) = (Side::new(1, 1).knowing(&both), Side::new(2, 2).knowing(&both));
        let call = two.takes(one.calls(2)).expect("it is who it was");
        assert!(knows_callee(call.metadata()));
        one.takes(two.calls(1)).expect("it is who it was");
    }

    #[test]
    fn an_emptied_callee_refuses_all_and_ends_once() {
        let old = Side::new(1, 1).knowing(&[(1, 1), (2, 2)]);
        let emptied = Side::new(2, 9);
        let refused = emptied.takes(old.calls(2));
        assert!(!caller_is_lost(refused.as_ref().expect_err("it is refused")));
        assert_eq!(refusal(refused), lost_is(CALLEE));
        assert_eq!(emptied.ended(), 1);
        let stranger = Side::new(3, 3);
        assert_eq!(refusal(emptied.takes(stranger.calls(2))), lost_is(CALLEE), "whoever calls");
        assert_eq!(refusal(emptied.calls(1)), lost_is(CALLER), "it says nothing more itself");
        assert_eq!(refusal(emptied.takes(old.calls(2))), lost_is(CALLEE));
        assert_eq!(emptied.ended(), 1);
        assert_eq!(old.ended(), 0);
    }

    #[test]
    fn an_emptied_caller_is_refused_and_told() {
        let old = Side::new(1, 1).knowing(&[(1, 1), (2, 2)]);
        let emptied = Side::new(2, 9).knowing(&[(1, 5)]);
        let refused = old.takes(emptied.calls(1));
        assert!(caller_is_lost(refused.as_ref().expect_err("it is refused")));
        assert_eq!(refusal(refused), lost_is(CALLER));
        assert_eq!(old.ended(), 0, "what it expects of others counts nothing");
    }

    #[test]
    fn a_wrong_address_ends_nobody() {
        let one = Side::new(1, 1).knowing(&[(1, 1), (2, 2), (3, 3)]);
        let three = Side::new(3, 3);
        let status = three.takes(one.calls(2)).expect_err("it is meant for another node");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("this is node 3"), "{status}");
        assert_eq!(three.ended(), 0);
    }

    #[test]
    fn an_incarnation_that_is_none_is_another_one() {
        let old = Side::new(1, 1).knowing(&[(1, 1), (2, 2)]);
        let mut call = Side::new(2, 2).calls(1).expect("a call");
        call.metadata_mut().insert(FROM_INCARNATION, MetadataValue::from_static("nonsense"));
        assert_eq!(refusal(old.takes(Ok(call))), lost_is(CALLER));
    }

    #[test]
    fn a_node_whose_own_state_knows_another_folder_ends() {
        let mixed = Side::new(1, 9).knowing(&[(1, 1)]);
        assert_eq!(mixed.ended(), 1);
        assert_eq!(refusal(mixed.takes(Side::new(2, 2).calls(1))), lost_is(CALLEE));
    }
}

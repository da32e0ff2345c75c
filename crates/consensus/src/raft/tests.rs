//! openraft's own suite over the storage, and the messages' round trips.

use std::sync::Arc;

use atoll_storage::{DataFolder, FolderIdentity, LogStore, Resources, StateStore};
use atoll_types::NodeId;
use openraft::testing::log::{StoreBuilder, Suite};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::watch;

use super::testing::{damaged, log_id, membership};
use super::types::{EncodedEntry, Entry, StoredMembership, Types, Vote};
use super::{Log, StateMachine, codec};
use crate::clock::{Stamper, SystemClock};
use crate::fence::Fence;

struct Builder;

impl StoreBuilder<Types, Log, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, StateMachine), openraft::StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a folder");
        let identity = FolderIdentity { cluster: None, node: NodeId(1), name: "n1".parse().expect("a name") };
        let folder = DataFolder::open(dir.path(), &identity).expect("a data folder");
        let resources = Resources::default();
        let log = LogStore::open(&folder, &resources, |error| panic!("{error}")).expect("a log");
        let state = StateStore::open(&folder, &resources).expect("a state");
        let stamper = Arc::new(Stamper::new(Arc::new(SystemClock::default())));
        let on_fatal = Arc::new(|why: &str| panic!("{why}"));
        let fence = Fence::new(NodeId(1), folder.incarnation(), on_fatal, "lost".to_owned());
        let machine = StateMachine::new(Arc::new(state), watch::Sender::new(0), stamper, Arc::new(fence));
        // The suite purges what it has not applied.
        Ok((dir, Log::new(Arc::new(log), 1 << 20, None), machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openrafts_suite_passes() {
    Suite::<Types, Log, StateMachine, Builder, TempDir>::test_all(Builder).await.expect("the suite passes");
}

proptest! {
    #[test]
    fn an_entry_round_trips(term: u64, index: u64, bytes: Vec<u8>, kind in 0..3) {
        let payload = match kind {
            0 => openraft::EntryPayload::Blank,
            1 => openraft::EntryPayload::Normal(EncodedEntry(bytes.into())),
            _ => openraft::EntryPayload::Membership(membership(&[1, 2, term.max(3)], &[0])),
        };
        let entry = Entry { log_id: log_id(term, index), payload };
        let decoded = codec::decode_entry(codec::encode_entry(&entry)).expect("decoded");
        prop_assert_eq!(decoded, entry);
    }

    #[test]
    fn votes_and_memberships_round_trip(term: u64, node: u64, committed: bool, index: Option<u64>) {
        let vote = if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) };
        prop_assert_eq!(codec::decode_vote(&codec::encode_vote(&vote)).expect("decoded"), vote);
        let stored = StoredMembership::new(index.map(|index| log_id(term, index)), membership(&[node], &[]));
        prop_assert_eq!(codec::decode_membership(&codec::encode_membership(&stored)).expect("decoded"), stored);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
        decode(&bytes);
    }

    #[test]
    fn no_damaged_entry_makes_a_decoder_panic(bytes in damaged(stored_entry())) {
        decode(&bytes);
    }

    #[test]
    fn no_damaged_membership_makes_a_decoder_panic(bytes in damaged(stored_membership())) {
        decode(&bytes);
    }
}

/// Decodes bytes as all that the log and a snapshot have in them.
fn decode(bytes: &[u8]) {
    let _ = codec::decode_entry(bytes.to_vec().into());
    let _ = codec::decode_vote(bytes);
    let _ = codec::decode_log_id(bytes);
    let _ = codec::decode_membership(bytes);
}

fn stored_entry() -> Vec<u8> {
    let payload = openraft::EntryPayload::Membership(membership(&[1, 2, 3], &[4]));
    codec::encode_entry(&Entry { log_id: log_id(3, 300), payload }).to_vec()
}

fn stored_membership() -> Vec<u8> {
    codec::encode_membership(&StoredMembership::new(Some(log_id(3, 300)), membership(&[1, 2, 3], &[4])))
}

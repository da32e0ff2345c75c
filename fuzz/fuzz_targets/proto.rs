//! Messages from peers: what converts into a domain type satisfies it, and comes back from it and from its bytes.
#![no_main]

use atoll_proto::metadata::v1 as metadata;
use atoll_proto::raft::v1 as raft;
use atoll_proto::replication::{BLOCK_BYTES, ClusterIdentity, FetchBlob, v1};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = v1::FetchRequest::decode(bytes)
        && let Ok(fetch) = FetchBlob::try_from(message)
    {
        assert!(fetch.offset.is_multiple_of(BLOCK_BYTES));
        assert!(fetch.length != Some(0) && fetch.offset.checked_add(fetch.length.unwrap_or(0)).is_some());
        let sent = v1::FetchRequest::from(fetch);
        assert_eq!(FetchBlob::try_from(sent.clone()), Ok(fetch));
        let received = v1::FetchRequest::decode(sent.encode_to_vec().as_slice()).unwrap();
        assert_eq!(received, sent);
    }
    if let Ok(header) = v1::ClusterHeader::decode(bytes) {
        let whole = header.cluster_id.len() == 16;
        let identity = ClusterIdentity::try_from(Some(header));
        assert_eq!(identity.is_ok(), whole);
        if let Ok(identity) = identity {
            assert_eq!(ClusterIdentity::try_from(Some(v1::ClusterHeader::from(identity))), Ok(identity));
        }
    }
    decoded_again::<v1::Block>(bytes);
    decoded_again::<metadata::ProposeRequest>(bytes);
    decoded_again::<metadata::ProposeResponse>(bytes);
    decoded_again::<raft::AppendEntriesRequest>(bytes);
    decoded_again::<raft::SnapshotChunk>(bytes);
    decoded_again::<raft::StoredMembership>(bytes);
});

/// A message that decodes is the same after another trip.
fn decoded_again<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert_eq!(M::decode(message.encode_to_vec().as_slice()).unwrap(), message);
    }
}

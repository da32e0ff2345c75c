//! Blobs between regions.

use atoll_types::{ClusterId, Digest, ObjectName};

#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("atoll.replication.v1");
}

/// Size of a block in bytes; only the last one of a blob may be shorter.
pub const BLOCK_BYTES: u64 = 256 << 10;

/// Why a message is refused on receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field cannot be read.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// A cluster and its epoch, as every RPC carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// The cluster.
    pub id: ClusterId,
    /// Its epoch.
    pub epoch: u64,
}

impl From<ClusterIdentity> for v1::ClusterHeader {
    fn from(identity: ClusterIdentity) -> Self {
        Self { cluster_id: identity.id.as_bytes().to_vec().into(), epoch: identity.epoch }
    }
}

impl TryFrom<Option<v1::ClusterHeader>> for ClusterIdentity {
    type Error = InvalidMessage;

    fn try_from(header: Option<v1::ClusterHeader>) -> Result<Self, InvalidMessage> {
        let header = header.ok_or(InvalidMessage::Missing("cluster"))?;
        let id = ClusterId::from_slice(&header.cluster_id).ok_or(InvalidMessage::Malformed("cluster_id"))?;
        Ok(Self { id, epoch: header.epoch })
    }
}

/// Asks for blocks of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchBlob {
    /// Which cluster the asker belongs to.
    pub cluster: ClusterIdentity,
    /// The blob.
    pub digest: Digest,
    /// The object that the copy must be, if that matters.
    pub object: Option<ObjectName>,
    /// Where to begin: a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
    /// How many bytes; `None` is all that follow.
    pub length: Option<u64>,
    /// Whether nobody waits for it.
    pub background: bool,
}

impl From<FetchBlob> for v1::FetchRequest {
    fn from(fetch: FetchBlob) -> Self {
        Self {
            cluster: Some(fetch.cluster.into()),
            digest: fetch.digest.to_bytes().into(),
            object: fetch.object.map(|o| o.to_string()).unwrap_or_default(),
            offset: fetch.offset,
            length: fetch.length.unwrap_or(0),
            background: fetch.background,
        }
    }
}

impl TryFrom<v1::FetchRequest> for FetchBlob {
    type Error = InvalidMessage;

    fn try_from(request: v1::FetchRequest) -> Result<Self, InvalidMessage> {
        let object = match request.object.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|_| InvalidMessage::Malformed("object"))?),
        };
        if !request.offset.is_multiple_of(BLOCK_BYTES) || request.offset.checked_add(request.length).is_none() {
            return Err(InvalidMessage::Malformed("offset"));
        }
        Ok(Self {
            cluster: request.cluster.try_into()?,
            digest: Digest::from_bytes(&request.digest).ok_or(InvalidMessage::Malformed("digest"))?,
            object,
            offset: request.offset,
            length: (request.length > 0).then_some(request.length),
            background: request.background,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fetch(blocks: u32, length: Option<u64>, named: bool, background: bool) -> FetchBlob {
        FetchBlob {
            cluster: ClusterIdentity { id: ClusterId::from_bytes([7; 16]), epoch: 3 },
            digest: Digest::sha256(b"blob"),
            object: named.then(|| ObjectName::from_parts(4, [9; 16])),
            offset: u64::from(blocks) * BLOCK_BYTES,
            length,
            background,
        }
    }

    #[test]
    fn the_bytes_of_a_request_stay_what_they_are() {
        use prost::Message;
        let hex = |fetch: FetchBlob| {
            let bytes = v1::FetchRequest::from(fetch).encode_to_vec();
            bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        let digest = Digest::sha256(b"blob").to_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let older = format!("0a140a10070707070707070707070707070707071003{}{digest}208080402805", "1221");
        assert_eq!(hex(fetch(4, Some(5), false, false)), older);
        assert_eq!(hex(fetch(4, Some(5), false, true)), older + "3001");
    }

    #[test]
    fn what_is_malformed_is_refused_with_the_field() {
        let good = v1::FetchRequest::from(fetch(1, None, true, true));
        for (bad, why) in [
            (v1::FetchRequest { cluster: None, ..good.clone() }, InvalidMessage::Missing("cluster")),
            (v1::FetchRequest { digest: vec![1, 2].into(), ..good.clone() }, InvalidMessage::Malformed("digest")),
            (v1::FetchRequest { object: "../x".into(), ..good.clone() }, InvalidMessage::Malformed("object")),
            (v1::FetchRequest { offset: 1, ..good.clone() }, InvalidMessage::Malformed("offset")),
            (v1::FetchRequest { length: u64::MAX, ..good }, InvalidMessage::Malformed("offset")),
        ] {
            assert_eq!(FetchBlob::try_from(bad), Err(why));
        }
    }

    proptest! {
        #[test]
        fn requests_round_trip(blocks: u32, length in proptest::option::of(1..1u64 << 40), named: bool, background: bool) {
            let fetch = fetch(blocks, length, named, background);
            prop_assert_eq!(FetchBlob::try_from(v1::FetchRequest::from(fetch)), Ok(fetch));
        }
    }
}

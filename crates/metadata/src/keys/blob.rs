//! A blob that some repository links.

use atoll_types::Digest;
use prost::Message;

use super::{Key, Reader, Writer};
use crate::wire::Object;

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobKey {
    /// The blob.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BlobRecord {
    /// Its size in bytes.
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
    /// How many repositories link it: never zero.
    #[prost(uint64, tag = "2")]
    pub(crate) links: u64,
    /// Its state in each region, by name. A region that is missing, or whose copy is in a store that was replaced, is one that a job has still to reach.
    #[prost(message, repeated, tag = "3")]
    pub(crate) regions: Vec<InRegion>,
    /// No region holds it any more.
    #[prost(bool, tag = "4")]
    pub(crate) lost: bool,
}

impl Key for BlobKey {
    const PREFIX: u8 = 0x1c;
    type Record = BlobRecord;

    fn write(&self, to: &mut Writer) {
        to.digest(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { digest: from.digest()? })
    }
}

/// A blob in a region: a copy where an object is named, else wanted.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InRegion {
    /// The region.
    #[prost(string, tag = "1")]
    pub(crate) region: String,
    /// The copy's object.
    #[prost(message, optional, tag = "2")]
    pub(crate) object: Option<Object>,
    /// The generation of the region's store that has the object.
    #[prost(uint64, tag = "3")]
    pub(crate) generation: u64,
    /// Under which revision it stands in the replication queue; zero for a copy.
    #[prost(uint64, tag = "4")]
    pub(crate) wanted: u64,
    /// Of a copy: it was found missing or corrupt, and no region has another one. Never together with a copy that is not
    /// suspect.
    #[prost(bool, tag = "5")]
    pub(crate) suspect: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = BlobKey { digest: digest() };
        let record = BlobRecord { size: 1, links: 2, regions: vec![], lost: false };
        golden(&key, &record, "1c01fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8", "0108011002");
    }

    #[test]
    fn a_blobs_state_in_a_region_never_changes_either() {
        let key = BlobKey { digest: digest() };
        let copy = |suspect| InRegion {
            region: "us-east".into(),
            object: Object::of(&object()),
            generation: 3,
            wanted: 0,
            suspect,
        };
        let queued = InRegion { region: "us-east".into(), wanted: 258, ..Default::default() };
        let key_hex = "1c01fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8";
        for (in_region, value_hex) in [
            (copy(false), "01080110021a210a0775732d65617374121408071210abababababababababababababababab1803"),
            (copy(true), "01080110021a230a0775732d65617374121408071210abababababababababababababababab18032801"),
            (queued, "01080110021a0c0a0775732d65617374208202"),
        ] {
            let record = BlobRecord { size: 1, links: 2, regions: vec![in_region], lost: false };
            golden(&key, &record, key_hex, value_hex);
        }
    }

    proptest! {
        #[test]
        fn it_round_trips(digest in digests()) {
            round_trips(BlobKey { digest }, BlobRecord { size: 1, links: 2, regions: vec![], lost: false })?;
        }
    }
}

//! An entry of the replication queue.

use atoll_types::{Digest, RegionId, Revision};
use prost::Message;

use super::{Key, Reader, Writer, prefix};
use crate::Family;

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedKey {
    /// The region.
    pub(crate) region: RegionId,
    /// Since which change.
    pub(crate) revision: Revision,
    /// The blob.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WantedRecord {
    /// Its size in bytes.
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
    /// Since when, in leader time.
    #[prost(uint64, tag = "2")]
    pub(crate) since_ms: u64,
}

impl Key for WantedKey {
    const FAMILY: Family = Family::Wanted;
    const PREFIX: u8 = 0x40;
    type Record = WantedRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.region.as_str()).revision(self.revision).digest(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { region: from.text()?, revision: from.revision()?, digest: from.digest()? })
    }
}

impl WantedKey {
    /// The beginning of the queue of a region.
    pub(crate) fn of_region(region: &RegionId) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(region.as_str());
        })
    }
    /// The entries of a region from a revision on.
    pub(crate) fn from_revision(region: &RegionId, revision: Revision) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(region.as_str()).revision(revision);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = WantedKey { region: region(), revision: Revision(258), digest: digest() };
        let record = WantedRecord { size: 1, since_ms: 2 };
        golden(
            &key,
            &record,
            "4075732d6561737400000000000000010201fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "0108011002",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(region in regions(), revision in revisions(), digest in digests()) {
            round_trips(WantedKey { region, revision, digest }, WantedRecord { size: 1, since_ms: 2 })?;
        }
    }
}

//! An object whose bytes are to be removed.

use atoll_types::{ObjectName, RegionId, Revision};
use prost::Message;

use super::{Key, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GarbageKey {
    /// The region.
    pub(crate) region: RegionId,
    /// The change that made it garbage.
    pub(crate) revision: Revision,
    /// The object.
    pub(crate) object: ObjectName,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GarbageRecord {
    /// The blob that it was a copy of.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    /// Its size in bytes.
    #[prost(uint64, tag = "2")]
    pub(crate) size: u64,
    /// Since when, in leader time.
    #[prost(uint64, tag = "3")]
    pub(crate) since_ms: u64,
}

impl Key for GarbageKey {
    const PREFIX: u8 = 0x20;
    type Record = GarbageRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.region.as_str()).revision(self.revision).object(&self.object);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { region: from.text()?, revision: from.revision()?, object: from.object()? })
    }
}

impl GarbageKey {
    /// The beginning of the garbage of a region.
    pub(crate) fn of_region(region: &RegionId) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(region.as_str());
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
        let key = GarbageKey { region: region(), revision: Revision(258), object: object() };
        let record = GarbageRecord { digest: vec![1], size: 2, since_ms: 3 };
        golden(
            &key,
            &record,
            "2075732d656173740000000000000001020000000000000007abababababababababababababababab",
            "010a010110021803",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(region in regions(), revision in revisions(), object in objects()) {
            round_trips(GarbageKey { region, revision, object }, GarbageRecord { digest: vec![1], size: 2, since_ms: 3 })?;
        }
    }
}

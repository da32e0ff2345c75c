//! Counters of a region.

use atoll_types::RegionId;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionCountersKey {
    /// The region.
    pub(crate) region: RegionId,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegionCounters {
    /// Entries of the replication queue.
    #[prost(uint64, tag = "1")]
    pub(crate) wanted: u64,
    /// Their bytes.
    #[prost(uint64, tag = "2")]
    pub(crate) wanted_bytes: u64,
    /// Linked blobs that are not here and that a job has still to put into the queue.
    #[prost(uint64, tag = "3")]
    pub(crate) beyond: u64,
    /// Their bytes.
    #[prost(uint64, tag = "4")]
    pub(crate) beyond_bytes: u64,
    /// Copies in the current store.
    #[prost(uint64, tag = "5")]
    pub(crate) held: u64,
    /// Their bytes.
    #[prost(uint64, tag = "6")]
    pub(crate) held_bytes: u64,
    /// Objects whose bytes are to be removed.
    #[prost(uint64, tag = "7")]
    pub(crate) garbage: u64,
    /// Their bytes.
    #[prost(uint64, tag = "8")]
    pub(crate) garbage_bytes: u64,
    /// No entry of the queue is below this revision: reads of its head start here, so that they do not pass over the tombstones of what was taken from it.
    #[prost(uint64, tag = "9")]
    pub(crate) wanted_from: u64,
}

impl Key for RegionCountersKey {
    const PREFIX: u8 = 0x21;
    type Record = RegionCounters;

    fn write(&self, to: &mut Writer) {
        to.text(self.region.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { region: from.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = RegionCountersKey { region: region() };
        let record = RegionCounters {
            wanted: 1,
            wanted_bytes: 2,
            beyond: 3,
            beyond_bytes: 4,
            held: 5,
            held_bytes: 6,
            garbage: 7,
            garbage_bytes: 8,
            wanted_from: 9,
        };
        golden(&key, &record, "2175732d6561737400", "01080110021803200428053006380740084809");
    }

    proptest! {
        #[test]
        fn it_round_trips(region in regions()) {
            round_trips(RegionCountersKey { region }, RegionCounters { wanted: 1, wanted_bytes: 2, beyond: 3, beyond_bytes: 4, held: 5, held_bytes: 6, garbage: 7, garbage_bytes: 8, wanted_from: 9 })?;
        }
    }
}

//! Who has a duty of a region.

use atoll_types::RegionId;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseKey {
    /// The region.
    pub(crate) region: RegionId,
    /// The duty; not empty, without zero bytes.
    pub(crate) duty: String,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRecord {
    /// The node that holds it.
    #[prost(uint64, tag = "1")]
    pub(crate) holder: u64,
    /// Until when, in leader time.
    #[prost(uint64, tag = "2")]
    pub(crate) expires_ms: u64,
    /// The change that granted or renewed it.
    #[prost(uint64, tag = "3")]
    pub(crate) revision: u64,
}

impl Key for LeaseKey {
    const PREFIX: u8 = 0x24;
    type Record = LeaseRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.region.as_str()).text(&self.duty);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { region: from.text()?, duty: from.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = LeaseKey { region: region(), duty: "replication".into() };
        golden(
            &key,
            &LeaseRecord { holder: 1, expires_ms: 2, revision: 3 },
            "2475732d65617374007265706c69636174696f6e00",
            "01080110021803",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(region in regions(), duty in "[a-z]{1,9}", holder: u64, expires_ms: u64, revision: u64) {
            round_trips(LeaseKey { region, duty }, LeaseRecord { holder, expires_ms, revision })?;
        }
    }
}

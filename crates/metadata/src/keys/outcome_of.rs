//! The revision of a request that was applied.

use atoll_types::RequestId;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutcomeOfKey {
    /// The request.
    pub(crate) request: RequestId,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutcomeOfRecord {
    /// The change.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
}

impl Key for OutcomeOfKey {
    const PREFIX: u8 = 0x31;
    type Record = OutcomeOfRecord;

    fn write(&self, to: &mut Writer) {
        to.bytes(self.request.as_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { request: RequestId::from_bytes(from.array()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = OutcomeOfKey { request: RequestId::from_bytes([9; 16]) };
        golden(&key, &OutcomeOfRecord { revision: 1 }, "3109090909090909090909090909090909", "010801");
    }

    proptest! {
        #[test]
        fn it_round_trips(request: [u8; 16], revision: u64) {
            round_trips(OutcomeOfKey { request: RequestId::from_bytes(request) }, OutcomeOfRecord { revision })?;
        }
    }
}

//! Counters over all blobs.

use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TotalsKey;

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TotalsRecord {
    /// Blobs that some repository links.
    #[prost(uint64, tag = "1")]
    pub(crate) blobs: u64,
    /// Their bytes.
    #[prost(uint64, tag = "2")]
    pub(crate) bytes: u64,
    /// Those that no region holds any more.
    #[prost(uint64, tag = "3")]
    pub(crate) lost: u64,
}

impl Key for TotalsKey {
    const PREFIX: u8 = 0x03;
    type Record = TotalsRecord;

    fn write(&self, _to: &mut Writer) {}

    fn read(_from: &mut Reader<'_>) -> Option<Self> {
        Some(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = TotalsKey;
        let record = TotalsRecord { blobs: 1, bytes: 2, lost: 3 };
        golden(&key, &record, "03", "01080110021803");
    }

    #[test]
    fn it_round_trips() {
        round_trips(TotalsKey, TotalsRecord { blobs: 1, bytes: 2, lost: 3 }).unwrap();
    }
}

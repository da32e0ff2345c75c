//! Leader time, and how far what is kept for a while has been pruned.

use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockKey;

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClockRecord {
    /// Leader time of the newest entry, in milliseconds since the Unix epoch: it never goes back.
    #[prost(uint64, tag = "1")]
    pub(crate) time_ms: u64,
    /// No outcome is kept below this revision.
    #[prost(uint64, tag = "2")]
    pub(crate) outcomes_below: u64,
    /// No tombstone is kept below this revision.
    #[prost(uint64, tag = "3")]
    pub(crate) tombstones_below: u64,
}

impl Key for ClockKey {
    const PREFIX: u8 = 0x02;
    type Record = ClockRecord;

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
        let key = ClockKey;
        let record = ClockRecord { time_ms: 1_700_000_000_000, outcomes_below: 5, tombstones_below: 6 };
        golden(&key, &record, "02", "010880d095ffbc3110051806");
    }

    #[test]
    fn it_round_trips() {
        round_trips(ClockKey, ClockRecord { time_ms: 1_700_000_000_000, outcomes_below: 5, tombstones_below: 6 })
            .unwrap();
    }
}

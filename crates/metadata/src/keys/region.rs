//! A region.

use atoll_types::RegionId;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionKey {
    /// The region.
    pub(crate) region: RegionId,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegionRecord {
    /// The change that registered it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// Its store; empty: none yet.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) store: Vec<u8>,
    /// How often its store was set. A copy of another generation is in a store that was replaced.
    #[prost(uint64, tag = "3")]
    pub(crate) generation: u64,
    /// Whether its fetching is paused.
    #[prost(bool, tag = "4")]
    pub(crate) paused: bool,
    /// The change that paused or resumed it.
    #[prost(uint64, tag = "5")]
    pub(crate) paused_revision: u64,
    /// Names with an epoch below the one before this are refused.
    #[prost(uint64, tag = "6")]
    pub(crate) sweep_epoch: u64,
    /// Since when, in leader time.
    #[prost(uint64, tag = "7")]
    pub(crate) sweep_since_ms: u64,
    /// The job that puts its blobs into the queue; zero: none.
    #[prost(uint64, tag = "8")]
    pub(crate) job: u64,
    /// Since when, in leader time, the blobs that it reaches are due: since its start, or that of the first of several
    /// jobs of which each took the place of the one before.
    #[prost(uint64, tag = "9")]
    pub(crate) job_since_ms: u64,
    /// The change that made them due, at that time; zero where an older version wrote it: the job's own.
    #[prost(uint64, tag = "10")]
    pub(crate) job_due: u64,
}

impl Key for RegionKey {
    const PREFIX: u8 = 0x22;
    type Record = RegionRecord;

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
        let key = RegionKey { region: region() };
        let record = RegionRecord {
            revision: 1,
            store: vec![2; 16],
            generation: 3,
            paused: true,
            paused_revision: 4,
            sweep_epoch: 5,
            sweep_since_ms: 6,
            job: 7,
            job_since_ms: 8,
            job_due: 0,
        };
        golden(
            &key,
            &record,
            "2275732d6561737400",
            "0108011210020202020202020202020202020202021803200128043005380640074808",
        );
        golden(&key, &RegionRecord { job_due: 9, ..Default::default() }, "2275732d6561737400", "015009");
    }

    proptest! {
        #[test]
        fn it_round_trips(region in regions()) {
            round_trips(RegionKey { region }, RegionRecord { revision: 1, store: vec![2; 16], generation: 3, paused: true, paused_revision: 4, sweep_epoch: 5, sweep_since_ms: 6, job: 7, job_since_ms: 8, job_due: 9 })?;
        }
    }
}

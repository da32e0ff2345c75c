//! The cluster's identity.

use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterKey;

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClusterRecord {
    /// Its id.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) cluster: Vec<u8>,
    /// Its epoch.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    /// The highest feature level that commands may need: all nodes can apply it.
    #[prost(uint32, tag = "3")]
    pub(crate) feature_level: u32,
    /// The change that wrote it.
    #[prost(uint64, tag = "4")]
    pub(crate) revision: u64,
}

impl Key for ClusterKey {
    const PREFIX: u8 = 0x01;
    type Record = ClusterRecord;

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
        let key = ClusterKey;
        let record = ClusterRecord { cluster: vec![1; 16], epoch: 2, feature_level: 1, revision: 3 };
        golden(&key, &record, "01", "010a1001010101010101010101010101010101100218012003");
    }

    #[test]
    fn it_round_trips() {
        round_trips(ClusterKey, ClusterRecord { cluster: vec![1; 16], epoch: 2, feature_level: 1, revision: 3 })
            .unwrap();
    }
}

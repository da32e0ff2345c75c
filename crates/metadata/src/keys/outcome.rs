//! What came of a request, kept for a while.

use atoll_types::Revision;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutcomeKey {
    /// The change.
    pub(crate) revision: Revision,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutcomeRecord {
    /// The request.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) request: Vec<u8>,
    /// A hash of the command, so that a request id that is used for another command is noticed.
    #[prost(uint64, tag = "2")]
    pub(crate) fingerprint: u64,
    /// The outcome, encoded.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) outcome: Vec<u8>,
}

impl Key for OutcomeKey {
    const PREFIX: u8 = 0x30;
    type Record = OutcomeRecord;

    fn write(&self, to: &mut Writer) {
        to.revision(self.revision);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { revision: from.revision()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = OutcomeKey { revision: Revision(258) };
        let record = OutcomeRecord { request: vec![1; 16], fingerprint: 2, outcome: vec![3] };
        golden(&key, &record, "300000000000000102", "010a100101010101010101010101010101010110021a0103");
    }

    proptest! {
        #[test]
        fn it_round_trips(revision in revisions()) {
            round_trips(OutcomeKey { revision }, OutcomeRecord { request: vec![1; 16], fingerprint: 2, outcome: vec![3] })?;
        }
    }
}

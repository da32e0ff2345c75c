//! A job that goes on in bounded steps.

use atoll_types::Revision;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobKey {
    /// The change that created it.
    pub(crate) revision: Revision,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JobRecord {
    /// Of a region's job: every blob is to stand in its queue, or be held by its current store.
    #[prost(string, tag = "1")]
    pub(crate) region: String,
    /// Of a removal of tags: the repository.
    #[prost(string, tag = "2")]
    pub(crate) repository: String,
    /// Of a removal of tags: the deleted manifest.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) digest: Vec<u8>,
    /// The key from which to go on; empty: the first.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) cursor: Vec<u8>,
    /// When it was created, in leader time.
    #[prost(uint64, tag = "5")]
    pub(crate) created_ms: u64,
}

impl Key for JobKey {
    const PREFIX: u8 = 0x32;
    type Record = JobRecord;

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
        let key = JobKey { revision: Revision(258) };
        let record =
            JobRecord { region: "r".into(), repository: String::new(), digest: vec![], cursor: vec![1], created_ms: 2 };
        golden(&key, &record, "320000000000000102", "010a01722201012802");
    }

    proptest! {
        #[test]
        fn it_round_trips(revision in revisions()) {
            round_trips(JobKey { revision }, JobRecord { region: "r".into(), repository: String::new(), digest: vec![], cursor: vec![1], created_ms: 2 })?;
        }
    }
}

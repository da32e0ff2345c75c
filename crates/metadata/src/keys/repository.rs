//! A repository.

use atoll_types::RepositoryName;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RepositoryRecord {
    /// The change that wrote it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// When it was created, in leader time.
    #[prost(uint64, tag = "2")]
    pub(crate) created_ms: u64,
    /// What it is; 0: pushed to by clients.
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    /// The regions where its blobs must live; empty: all.
    #[prost(string, repeated, tag = "4")]
    pub(crate) placement: Vec<String>,
    /// Deleted manifests whose tags are still being removed: while there are any, reads must look for hidden tags.
    #[prost(uint64, tag = "5")]
    pub(crate) removals: u64,
}

impl Key for RepositoryKey {
    const PREFIX: u8 = 0x11;
    type Record = RepositoryRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = RepositoryKey { repository: repository() };
        let record = RepositoryRecord { revision: 1, created_ms: 2, kind: 0, placement: vec![], removals: 3 };
        golden(&key, &record, "116c6962726172792f616c70696e6500", "01080110022803");
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories()) {
            round_trips(RepositoryKey { repository }, RepositoryRecord { revision: 1, created_ms: 2, kind: 0, placement: vec![], removals: 3 })?;
        }
    }
}

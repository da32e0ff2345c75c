//! A deleted manifest whose tags are still being removed: they are hidden.

use atoll_types::{Digest, RepositoryName};
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemovalKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The manifest.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RemovalRecord {
    /// The deletion: tags that point to the manifest since before it are hidden.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// The job that removes them.
    #[prost(uint64, tag = "2")]
    pub(crate) job: u64,
}

impl Key for RemovalKey {
    const PREFIX: u8 = 0x19;
    type Record = RemovalRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).digest(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()?, digest: from.digest()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = RemovalKey { repository: repository(), digest: digest() };
        let record = RemovalRecord { revision: 1, job: 2 };
        golden(
            &key,
            &record,
            "196c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "0108011002",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), digest in digests()) {
            round_trips(RemovalKey { repository, digest }, RemovalRecord { revision: 1, job: 2 })?;
        }
    }
}

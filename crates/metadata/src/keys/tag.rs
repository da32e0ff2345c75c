//! A tag.

use atoll_types::{RepositoryName, Tag};
use prost::Message;

use super::{Key, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The tag.
    pub(crate) tag: Tag,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TagRecord {
    /// The change that moved it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// The manifest it points to.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
    /// When it was moved, in leader time.
    #[prost(uint64, tag = "3")]
    pub(crate) time_ms: u64,
}

impl Key for TagKey {
    const PREFIX: u8 = 0x14;
    type Record = TagRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).text(self.tag.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()?, tag: from.text()? })
    }
}

impl TagKey {
    /// The beginning of the tags of a repository.
    pub(crate) fn of_repository(repository: &RepositoryName) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(repository.as_str());
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = TagKey { repository: repository(), tag: a_tag() };
        let record = TagRecord { revision: 1, digest: vec![1], time_ms: 2 };
        golden(&key, &record, "146c6962726172792f616c70696e650076312e3000", "0108011201011802");
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), tag in tags()) {
            round_trips(TagKey { repository, tag }, TagRecord { revision: 1, digest: vec![1], time_ms: 2 })?;
        }
    }
}

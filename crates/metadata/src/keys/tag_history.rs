//! The last moves and deletions of a tag.

use atoll_types::{RepositoryName, Revision, Tag};
use prost::Message;

use super::{Key, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagHistoryKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The tag.
    pub(crate) tag: Tag,
    /// The change.
    pub(crate) revision: Revision,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TagHistoryRecord {
    /// Where it was moved to; empty: it was deleted.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    /// When, in leader time.
    #[prost(uint64, tag = "2")]
    pub(crate) time_ms: u64,
    /// Who did it.
    #[prost(string, tag = "3")]
    pub(crate) actor: String,
}

impl Key for TagHistoryKey {
    const PREFIX: u8 = 0x15;
    type Record = TagHistoryRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).text(self.tag.as_str()).revision(self.revision);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()?, tag: from.text()?, revision: from.revision()? })
    }
}

impl TagHistoryKey {
    /// The beginning of the history of a tag.
    pub(crate) fn of_tag(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(repository.as_str()).text(tag.as_str());
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
        let key = TagHistoryKey { repository: repository(), tag: a_tag(), revision: Revision(258) };
        let record = TagHistoryRecord { digest: vec![1], time_ms: 2, actor: "a".into() };
        golden(&key, &record, "156c6962726172792f616c70696e650076312e30000000000000000102", "010a010110021a0161");
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), tag in tags(), revision in revisions()) {
            round_trips(TagHistoryKey { repository, tag, revision }, TagHistoryRecord { digest: vec![1], time_ms: 2, actor: "a".into() })?;
        }
    }
}

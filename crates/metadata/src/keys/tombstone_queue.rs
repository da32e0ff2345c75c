//! Tombstones, oldest first, so that they can be pruned.

use atoll_types::Revision;

use super::{Key, Nothing, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TombstoneQueueKey {
    /// The change that deleted it.
    pub(crate) revision: Revision,
    /// The whole key that was deleted.
    pub(crate) of: Vec<u8>,
}

impl Key for TombstoneQueueKey {
    const PREFIX: u8 = 0x34;
    type Record = Nothing;

    fn write(&self, to: &mut Writer) {
        to.revision(self.revision).bytes(&self.of);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { revision: from.revision()?, of: from.rest().to_vec() })
    }
}

impl TombstoneQueueKey {
    /// The beginning of the whole queue.
    pub(crate) fn all() -> Vec<u8> {
        prefix::<Self>(|_| {})
    }

    /// The entries from a revision on.
    pub(crate) fn from_revision(revision: Revision) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.revision(revision);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tag::TagKey;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let of = TagKey { repository: repository(), tag: a_tag() }.encode();
        golden(
            &TombstoneQueueKey { revision: Revision(258), of },
            &Nothing {},
            "340000000000000102146c6962726172792f616c70696e650076312e3000",
            "01",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(revision in revisions(), of: Vec<u8>) {
            let key = TombstoneQueueKey { revision, of };
            prop_assert_eq!(TombstoneQueueKey::decode(&key.encode()), Ok(key));
        }
    }
}

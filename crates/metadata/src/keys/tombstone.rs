//! When a tag, a manifest or a link was deleted: kept for a while, so that no late retry of an older put brings it back.

use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TombstoneKey {
    /// The whole key that was deleted.
    pub(crate) of: Vec<u8>,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TombstoneRecord {
    /// The change that deleted it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
}

impl Key for TombstoneKey {
    const PREFIX: u8 = 0x33;
    type Record = TombstoneRecord;

    fn write(&self, to: &mut Writer) {
        to.bytes(&self.of);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { of: from.rest().to_vec() })
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
            &TombstoneKey { of },
            &TombstoneRecord { revision: 1 },
            "33146c6962726172792f616c70696e650076312e3000",
            "010801",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(of: Vec<u8>) {
            prop_assert_eq!(TombstoneKey::decode(&TombstoneKey { of: of.clone() }.encode()), Ok(TombstoneKey { of }));
        }
    }
}

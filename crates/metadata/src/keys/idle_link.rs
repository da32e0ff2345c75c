//! Links that nothing uses, oldest first: for collection.

use atoll_types::{Digest, RepositoryName, Revision};
use prost::Message;

use super::{Key, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdleLinkKey {
    /// False: no manifest has used it yet.
    pub(crate) condemned: bool,
    /// The change that linked or condemned it.
    pub(crate) revision: Revision,
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The blob.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct IdleLinkRecord {
    /// Since when, in leader time.
    #[prost(uint64, tag = "1")]
    pub(crate) since_ms: u64,
}

impl Key for IdleLinkKey {
    const PREFIX: u8 = 0x1d;
    type Record = IdleLinkRecord;

    fn write(&self, to: &mut Writer) {
        to.bytes(&[u8::from(self.condemned)]);
        to.revision(self.revision).text(self.repository.as_str()).digest(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let condemned = match from.array()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self { condemned, revision: from.revision()?, repository: from.text()?, digest: from.digest()? })
    }
}

impl IdleLinkKey {
    /// The beginning of those that are condemned, or of those that are unused.
    pub(crate) fn of_state(condemned: bool) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.bytes(&[u8::from(condemned)]);
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
        let key = IdleLinkKey { condemned: true, revision: Revision(258), repository: repository(), digest: digest() };
        golden(
            &key,
            &IdleLinkRecord { since_ms: 1 },
            "1d0100000000000001026c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "010801",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(
            condemned: bool, revision in revisions(), repository in repositories(), digest in digests(), since_ms: u64
        ) {
            round_trips(IdleLinkKey { condemned, revision, repository, digest }, IdleLinkRecord { since_ms })?;
        }
    }
}

//! What a manifest refers to: apart from the manifest, which every pull reads.

use atoll_types::{Digest, RepositoryName};
use prost::Message;

use super::{Key, Reader, Writer};
use crate::wire::ReferenceMessage;

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferencesKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The manifest.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReferencesRecord {
    /// In the order of the manifest.
    #[prost(message, repeated, tag = "1")]
    pub(crate) references: Vec<ReferenceMessage>,
}

impl Key for ReferencesKey {
    const PREFIX: u8 = 0x13;
    type Record = ReferencesRecord;

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
        let key = ReferencesKey { repository: repository(), digest: digest() };
        let record = ReferencesRecord { references: vec![ReferenceMessage { digest: vec![1], blob_bytes: Some(2) }] };
        golden(
            &key,
            &record,
            "136c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "010a050a01011002",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), digest in digests()) {
            round_trips(ReferencesKey { repository, digest }, ReferencesRecord { references: vec![ReferenceMessage { digest: vec![1], blob_bytes: Some(2) }] })?;
        }
    }
}

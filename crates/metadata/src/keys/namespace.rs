//! Counters of a namespace: of all repositories whose names have the same first component.

use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceKey {
    /// The first component of a repository's name.
    pub(crate) name: String,
}

/// What it holds: for quotas and growth.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamespaceRecord {
    /// Repositories.
    #[prost(uint64, tag = "1")]
    pub(crate) repositories: u64,
    /// Manifests.
    #[prost(uint64, tag = "2")]
    pub(crate) manifests: u64,
    /// Links of blobs, condemned ones too.
    #[prost(uint64, tag = "3")]
    pub(crate) links: u64,
    /// Bytes of inline manifests and of linked blobs; a blob counts once in each repository that links it.
    #[prost(uint64, tag = "4")]
    pub(crate) logical_bytes: u64,
}

impl Key for NamespaceKey {
    const PREFIX: u8 = 0x10;
    type Record = NamespaceRecord;

    fn write(&self, to: &mut Writer) {
        to.text(&self.name);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { name: from.text()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = NamespaceKey { name: "library".into() };
        let record = NamespaceRecord { repositories: 1, manifests: 2, links: 3, logical_bytes: 4 };
        golden(&key, &record, "106c69627261727900", "010801100218032004");
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), links: u64) {
            let name = repository.namespace().to_owned();
            round_trips(NamespaceKey { name }, NamespaceRecord { links, ..Default::default() })?;
        }
    }
}

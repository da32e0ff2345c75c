//! A manifest of a repository.

use atoll_types::{Digest, RepositoryName};
use bytes::Bytes;
use prost::Message;

use super::{Key, Reader, Writer};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The manifest.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestRecord {
    /// The newest put of it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// The Content-Type it was put with.
    #[prost(string, tag = "2")]
    pub(crate) media_type: String,
    /// Its body, unless it is stored as a blob.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) inline: Option<Bytes>,
    /// The size of a body that is stored as a blob of the same digest.
    #[prost(uint64, tag = "4")]
    pub(crate) stored_bytes: u64,
    /// The manifest that it refers to; empty: none.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) subject: Vec<u8>,
    /// Its artifact type, or empty.
    #[prost(string, tag = "6")]
    pub(crate) artifact_type: String,
    /// When it was first put, in leader time.
    #[prost(uint64, tag = "7")]
    pub(crate) created_ms: u64,
}

impl Key for ManifestKey {
    const PREFIX: u8 = 0x12;
    type Record = ManifestRecord;

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
        let key = ManifestKey { repository: repository(), digest: digest() };
        let record = ManifestRecord {
            revision: 1,
            media_type: "m".into(),
            inline: Some(Bytes::from_static(b"{}")),
            stored_bytes: 0,
            subject: vec![],
            artifact_type: String::new(),
            created_ms: 2,
        };
        golden(
            &key,
            &record,
            "126c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "01080112016d1a027b7d3802",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), digest in digests()) {
            round_trips(ManifestKey { repository, digest }, ManifestRecord { revision: 1, media_type: "m".into(), inline: Some(Bytes::from_static(b"{}")), stored_bytes: 0, subject: vec![], artifact_type: String::new(), created_ms: 2 })?;
        }
    }
}

//! A manifest that refers to a subject, as the referrers API shows it. The subject need not exist.

use atoll_types::{Digest, RepositoryName};
use prost::Message;

use super::{Key, Reader, Writer, prefix};
use crate::wire::AnnotationsMessage;

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferrerKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// What is referred to.
    pub(crate) subject: Digest,
    /// The manifest that refers to it.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReferrerRecord {
    /// Its media type.
    #[prost(string, tag = "1")]
    pub(crate) media_type: String,
    /// Its size in bytes.
    #[prost(uint64, tag = "2")]
    pub(crate) size: u64,
    /// Its artifact type, or empty.
    #[prost(string, tag = "3")]
    pub(crate) artifact_type: String,
    /// Its annotations; absent: they are in the body.
    #[prost(message, optional, tag = "4")]
    pub(crate) annotations: Option<AnnotationsMessage>,
}

impl Key for ReferrerKey {
    const PREFIX: u8 = 0x16;
    type Record = ReferrerRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).digest(&self.subject).digest(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()?, subject: from.digest()?, digest: from.digest()? })
    }
}

impl ReferrerKey {
    /// The beginning of the referrers of a subject.
    pub(crate) fn of_subject(repository: &RepositoryName, subject: &Digest) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(repository.as_str()).digest(subject);
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
        let key = ReferrerKey { repository: repository(), subject: digest(), digest: digest() };
        let record = ReferrerRecord { media_type: "m".into(), size: 1, artifact_type: "a".into(), annotations: None };
        golden(
            &key,
            &record,
            "166c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b801fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "010a016d10011a0161",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), subject in digests(), digest in digests()) {
            round_trips(ReferrerKey { repository, subject, digest }, ReferrerRecord { media_type: "m".into(), size: 1, artifact_type: "a".into(), annotations: None })?;
        }
    }
}

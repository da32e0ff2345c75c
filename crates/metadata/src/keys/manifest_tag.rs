//! A tag by the manifest that it points to.

use atoll_types::{Digest, RepositoryName, Tag};

use super::{Key, Nothing, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestTagKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The manifest.
    pub(crate) digest: Digest,
    /// The tag.
    pub(crate) tag: Tag,
}

impl Key for ManifestTagKey {
    const PREFIX: u8 = 0x18;
    type Record = Nothing;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).digest(&self.digest).text(self.tag.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()?, digest: from.digest()?, tag: from.text()? })
    }
}

impl ManifestTagKey {
    /// The beginning of the tags of a manifest.
    pub(crate) fn of_manifest(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(repository.as_str()).digest(digest);
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
        let key = ManifestTagKey { repository: repository(), digest: digest(), tag: a_tag() };
        let record = Nothing {};
        golden(
            &key,
            &record,
            "186c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b876312e3000",
            "01",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), digest in digests(), tag in tags()) {
            round_trips(ManifestTagKey { repository, digest, tag }, Nothing {})?;
        }
    }
}

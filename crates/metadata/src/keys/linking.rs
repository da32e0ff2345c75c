//! A repository by the blob that it links.

use atoll_types::{Digest, RepositoryName};

use super::{Key, Nothing, Reader, Writer, prefix};

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkingKey {
    /// The blob.
    pub(crate) digest: Digest,
    /// The repository.
    pub(crate) repository: RepositoryName,
}

impl Key for LinkingKey {
    const PREFIX: u8 = 0x1b;
    type Record = Nothing;

    fn write(&self, to: &mut Writer) {
        to.digest(&self.digest).text(self.repository.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { digest: from.digest()?, repository: from.text()? })
    }
}

impl LinkingKey {
    /// The beginning of the repositories that link a blob.
    pub(crate) fn of_blob(digest: &Digest) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.digest(digest);
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
        let key = LinkingKey { digest: digest(), repository: repository() };
        let record = Nothing {};
        golden(
            &key,
            &record,
            "1b01fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b86c6962726172792f616c70696e6500",
            "01",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(digest in digests(), repository in repositories()) {
            round_trips(LinkingKey { digest, repository }, Nothing {})?;
        }
    }
}

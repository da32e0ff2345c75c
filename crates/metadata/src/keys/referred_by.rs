//! A reverse reference: which manifests of a repository refer to a digest.

use atoll_types::{Digest, RepositoryName};

use super::{Key, Nothing, Reader, Writer, prefix};

/// As what a digest is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    /// A blob: a config, a layer, or the manifest's own stored body.
    Blob,
    /// A child manifest of an index.
    Child,
}

impl As {
    /// In keys. Landed: it never changes.
    const fn code(self) -> u8 {
        match self {
            Self::Blob => 1,
            Self::Child => 2,
        }
    }
}

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferredByKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// What is referred to.
    pub(crate) target: Digest,
    /// As what.
    pub(crate) kind: As,
    /// The manifest that refers to it.
    pub(crate) referrer: Digest,
}

impl Key for ReferredByKey {
    const PREFIX: u8 = 0x17;
    type Record = Nothing;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).digest(&self.target).bytes(&[self.kind.code()]).digest(&self.referrer);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (repository, target) = (from.text()?, from.digest()?);
        let kind = match from.array()? {
            [1] => As::Blob,
            [2] => As::Child,
            _ => return None,
        };
        Some(Self { repository, target, kind, referrer: from.digest()? })
    }
}

impl ReferredByKey {
    /// The beginning of what refers to a digest as a blob or as a child.
    pub(crate) fn of_target(repository: &RepositoryName, target: &Digest, kind: As) -> Vec<u8> {
        prefix::<Self>(|to| {
            to.text(repository.as_str()).digest(target).bytes(&[kind.code()]);
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
        let key = ReferredByKey {
            repository: repository(),
            target: digest(),
            kind: As::Child,
            referrer: Digest::sha256(b"m"),
        };
        golden(
            &key,
            &Nothing {},
            "176c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8020162c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a",
            "01",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), target in digests(), child: bool, referrer in digests()) {
            let kind = if child { As::Child } else { As::Blob };
            round_trips(ReferredByKey { repository, target, kind, referrer }, Nothing {})?;
        }
    }
}

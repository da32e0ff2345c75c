//! A repository's access to a blob.

use atoll_types::{Digest, RepositoryName};
use prost::Message;

use super::{Key, Reader, Writer};
use crate::KvError;

/// The key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkKey {
    /// The repository.
    pub(crate) repository: RepositoryName,
    /// The blob.
    pub(crate) digest: Digest,
}

/// What it holds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinkRecord {
    /// The change that wrote it.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// When that was, in leader time.
    #[prost(uint64, tag = "2")]
    pub(crate) since_ms: u64,
    /// See [`LinkUse`].
    #[prost(uint32, tag = "3")]
    pub(crate) state: u32,
}

impl Key for LinkKey {
    const PREFIX: u8 = 0x1a;
    type Record = LinkRecord;

    fn write(&self, to: &mut Writer) {
        to.text(self.repository.as_str()).digest(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { repository: from.text()?, digest: from.digest()? })
    }
}

/// What a link is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkUse {
    /// No manifest has used it yet.
    Unused,
    /// A manifest of the repository refers to the blob.
    Used,
    /// The last manifest that used it is gone, or none ever did for too long.
    Condemned,
}

impl LinkUse {
    /// In keys and values. Landed: it never changes.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Unused => 1,
            Self::Used => 2,
            Self::Condemned => 3,
        }
    }

    /// The inverse of [`LinkUse::code`].
    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Unused),
            2 => Some(Self::Used),
            3 => Some(Self::Condemned),
            _ => None,
        }
    }
}

impl LinkRecord {
    /// What the link is there for.
    pub(crate) fn used(&self) -> Result<LinkUse, KvError> {
        LinkUse::from_code(self.state).ok_or_else(|| KvError(format!("a link of unknown state {}", self.state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_landed_never_changes() {
        let key = LinkKey { repository: repository(), digest: digest() };
        let record = LinkRecord { revision: 1, since_ms: 2, state: LinkUse::Used.code() };
        golden(
            &key,
            &record,
            "1a6c6962726172792f616c70696e650001fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
            "01080110021802",
        );
    }

    proptest! {
        #[test]
        fn it_round_trips(repository in repositories(), digest in digests()) {
            round_trips(LinkKey { repository, digest }, LinkRecord { revision: 1, since_ms: 2, state: LinkUse::Used.code() })?;
        }
    }
}

//! Tags, and references that are a tag or a digest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Digest, InvalidDigest};

/// Why a string is neither a tag nor a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not a tag.
    #[error(
        "a tag has 1 to {} characters of A-Z a-z 0-9 . _ - and starts with a letter, a digit or an underscore",
        Tag::LENGTH_MAX
    )]
    Tag,
    /// It has a colon, so it must be a digest, and is none.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

/// A tag's name: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Cheap to clone; ordered by bytes, as listings are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Most characters that a tag may have.
    pub const LENGTH_MAX: usize = 128;

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.as_bytes().first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first && rest && text.len() <= Self::LENGTH_MAX { Ok(Self(text.into())) } else { Err(InvalidReference::Tag) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names a manifest within a repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// By tag: moves.
    Tag(Tag),
    /// By digest: does not.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    /// A tag never has a colon and a digest always has one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_keep_to_the_grammar() {
        for good in ["v1", "_", "A.b-c_d", "latest", &"x".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", "-v", ".v", "v/1", "v\0", "v 1", "é", "v\r\nX: 1", &"x".repeat(129)] {
            assert_eq!(bad.parse::<Tag>(), Err(InvalidReference::Tag), "{bad:?}");
        }
    }

    #[test]
    fn a_colon_makes_it_a_digest() {
        assert!(matches!("v1".parse(), Ok(Reference::Tag(_))));
        assert!(matches!("sha256:short".parse::<Reference>(), Err(InvalidReference::Digest(_))));
        let digest = Digest::sha256(b"x");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Reference>();
        }
    }
}

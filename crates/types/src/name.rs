//! Repository names (OCI distribution specification, "Pulling manifests").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a string is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Empty.
    #[error("a repository name is not empty")]
    Empty,
    /// Longer than [`RepositoryName::LENGTH_MAX`] characters.
    #[error("a repository name has at most {} characters", RepositoryName::LENGTH_MAX)]
    TooLong,
    /// Against the grammar.
    #[error(
        "a repository name is made of lower-case letters and digits, joined by single '.', '_', '__' or '-' within a component and '/' between components"
    )]
    Grammar,
}

/// A repository's name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// Most characters that a name may have.
    pub const LENGTH_MAX: usize = 255;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first slash: the unit of quotas and of growth. The name itself where there is none.
    pub fn namespace(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }
}

/// `[a-z0-9]+ ((\.|_|__|-+) [a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        more => more.iter().all(|b| *b == b'-'),
    })
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > Self::LENGTH_MAX {
            return Err(InvalidName::TooLong);
        }
        if text.split('/').all(is_component) { Ok(Self(text.into())) } else { Err(InvalidName::Grammar) }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar_is_that_of_the_specification() {
        for good in ["a", "library/alpine", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", "my-org/my_app.v2"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "A", "a/", "/a", "a//b", "-a", "a-", "a..b", "a___b", "a._b", "a b", "ä", "a\0", "../etc", "a/../b",
            "a%2fb",
        ] {
            assert_eq!(bad.parse::<RepositoryName>(), Err(InvalidName::Grammar), "{bad}");
        }
        assert_eq!("".parse::<RepositoryName>(), Err(InvalidName::Empty));
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(InvalidName::TooLong));
    }

    #[test]
    fn the_namespace_is_the_first_component() {
        let namespace = |text: &str| text.parse::<RepositoryName>().map(|n| n.namespace().to_owned());
        assert_eq!(namespace("team/app/web"), Ok("team".to_owned()));
        assert_eq!(namespace("alone"), Ok("alone".to_owned()));
    }

    proptest! {
        #[test]
        fn what_parses_is_printed_as_it_was(text in "[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,3}(/[a-z0-9]{1,8}){0,3}") {
            prop_assert_eq!(text.parse::<RepositoryName>().map(|n| n.to_string()), Ok(text));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<RepositoryName>();
        }
    }
}

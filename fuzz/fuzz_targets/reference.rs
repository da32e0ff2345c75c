//! Repository names, tags and references are what the distribution specification's grammar says, and keep their spelling.
#![no_main]

use std::sync::LazyLock;

use atoll_types::{Digest, NodeName, Reference, RegionId, RepositoryName, Tag};
use libfuzzer_sys::fuzz_target;
use regex::Regex;

fn grammar(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

/// OCI distribution specification, "Pulling manifests".
static NAME: LazyLock<Regex> =
    LazyLock::new(|| grammar(r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$"));
static TAG: LazyLock<Regex> = LazyLock::new(|| grammar(r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"));
static LABEL: LazyLock<Regex> = LazyLock::new(|| grammar("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"));

fuzz_target!(|text: &str| {
    name(text);
    tag(text);
    label(text);
    match text.parse::<Reference>() {
        Ok(Reference::Tag(tag)) => assert_eq!(text.parse(), Ok(tag)),
        Ok(Reference::Digest(digest)) => assert_eq!(text.parse(), Ok(digest)),
        Err(_) => assert!(text.parse::<Tag>().is_err() && text.parse::<Digest>().is_err(), "{text:?}"),
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
});

fn name(text: &str) {
    let parsed = text.parse::<RepositoryName>();
    let wanted = text.len() <= RepositoryName::LENGTH_MAX && NAME.is_match(text);
    assert_eq!(parsed.is_ok(), wanted, "{text:?}");
    if let Ok(name) = parsed {
        assert_eq!(name.as_str(), text);
        assert!(text.starts_with(name.namespace()) && !name.namespace().contains('/'));
        assert!(name.namespace().parse::<RepositoryName>().is_ok());
    }
}

fn tag(text: &str) {
    let parsed = text.parse::<Tag>();
    assert_eq!(parsed.is_ok(), TAG.is_match(text), "{text:?}");
    if let Ok(tag) = parsed {
        assert_eq!(tag.as_str(), text);
        assert!(text.parse::<Digest>().is_err(), "what is a tag is no digest");
    }
}

fn label(text: &str) {
    let wanted = LABEL.is_match(text);
    assert_eq!(text.parse::<RegionId>().is_ok(), wanted, "{text:?}");
    assert_eq!(text.parse::<NodeName>().is_ok(), wanted, "{text:?}");
}

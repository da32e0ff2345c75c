//! What is a digest is what the grammar says, has one spelling, and comes back from text, from bytes and from keys.
#![no_main]

use std::sync::LazyLock;

use atoll_types::Digest;
use libfuzzer_sys::fuzz_target;
use regex::Regex;

static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| Regex::new("^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$").unwrap());

fuzz_target!(|bytes: &[u8]| {
    from_bytes(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = text.parse::<Digest>();
    // In Rust's regex "$" is the end of the text alone.
    assert_eq!(parsed.is_ok(), GRAMMAR.is_match(text), "{text:?}");
    let Ok(digest) = parsed else { return };
    assert_eq!(digest.to_string(), text);
    assert_eq!(digest.hash().len(), digest.algorithm().hash_bytes());
    assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
});

fn from_bytes(bytes: &[u8]) {
    if let Some(digest) = Digest::from_bytes(bytes) {
        assert_eq!(digest.to_bytes(), bytes);
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
    if let Some((digest, rest)) = Digest::split_from(bytes) {
        assert_eq!([digest.to_bytes(), rest.to_vec()].concat(), bytes);
    }
}

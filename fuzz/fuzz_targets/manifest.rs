//! What is accepted as a manifest keeps its bounds, and means the same however its JSON is spelled.
#![no_main]

use std::collections::HashSet;

use atoll_oci::{Kind, ManifestError, ParsedManifest, REFERENCES_MAX, parse_manifest};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const TYPES: [Option<&str>; 8] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
    Some("application/vnd.docker.distribution.manifest.list.v2+json"),
    Some("application/vnd.oci.artifact.manifest.v1+json"),
    Some("application/json"),
    Some(""),
];

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let content_type = TYPES[usize::from(*first) % TYPES.len()];
    let parsed = match parse_manifest(body, content_type) {
        Ok(parsed) => parsed,
        Err(ManifestError::Json(_)) => return,
        Err(error) => {
            assert!(serde_json::from_slice::<Value>(body).is_ok(), "{error}: but it is not JSON");
            return;
        }
    };
    bounded(&parsed);
    let value: Value = serde_json::from_slice(body).expect("what is accepted is JSON");
    for spelling in [serde_json::to_vec(&value), serde_json::to_vec_pretty(&value)] {
        let again = parse_manifest(&spelling.expect("a value can be printed"), content_type);
        assert_eq!(again, Ok(parsed.clone()), "the same JSON in another spelling");
    }
    if content_type.is_none() {
        let named = parse_manifest(body, Some(&parsed.media_type));
        assert_eq!(named, Ok(parsed), "the type that was found is the type that may be given");
    }
});

fn bounded(parsed: &ParsedManifest) {
    assert!(parsed.references.len() <= REFERENCES_MAX);
    let distinct: HashSet<_> =
        parsed.references.iter().map(|child| (format!("{:?}", child.kind), child.digest)).collect();
    assert_eq!(distinct.len(), parsed.references.len(), "each reference once");
    assert!(parsed.references.iter().all(|child| i64::try_from(child.size).is_ok()));
    let essence = atoll_oci::essence(&parsed.media_type);
    assert!(essence.contains('/') && essence.bytes().all(|b| b.is_ascii_graphic()) && essence.len() <= 255);
    assert!(parsed.annotations.windows(2).all(|pair| pair[0].0 < pair[1].0), "annotations in order, each key once");
    if parsed.kind == Kind::Index {
        assert!(parsed.media_type.is_ascii());
    }
}

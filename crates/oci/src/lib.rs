//! Bounded parsing of manifests and indexes (OCI image specification 1.1; Docker image manifest version 2, schema 2).
//!
//! Architecture invariant: knows `types` and nothing else of Atoll. Nothing here allocates more than a small multiple of
//! the body, recurses without a bound, or accepts what two parsers could understand in two ways.

mod manifest;
mod media_type;
mod strict;

pub use manifest::{
    Child, Kind, MANIFEST_BYTES_MAX, ManifestError, ParsedManifest, REFERENCES_MAX, ReferenceKind, parse_manifest,
};
pub use media_type::{essence, is_manifest, is_non_distributable};

//! Bounded parsing of OCI and Docker manifests, their media types, and OCI's error codes.

/// Largest manifest body, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

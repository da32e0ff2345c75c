//! A region's object store in S3's terms: named objects, written once in parts, read by ranges, listed, deleted.
//!
//! [`BlobStore`] is what `fs` and (later) `s3` implement, under one contract suite. On top of it stand the writer that
//! hashes and checksums what passes ([`VerifyingWriter`]) and the reader that lets no unchecked byte out
//! ([`CheckedReader`]).
//!
//! Architecture invariant: names objects, never blobs of a repository; knows no metadata.

mod store;

pub use store::{BlobStore, BlockChecksums, ByteStream, ObjectInfo, ObjectWriter, StoreError};

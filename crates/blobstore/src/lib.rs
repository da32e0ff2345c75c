//! A region's object store in S3's terms: named objects, written once in parts, read by ranges, listed, deleted.
//!
//! [`BlobStore`] is what [`FsStore`] and [`S3Store`] implement, under one [`contract`] suite. On top of it stand the
//! writer that hashes and checksums what passes ([`VerifyingWriter`]) and the reader that lets no unchecked byte out
//! ([`CheckedReader`]).
//!
//! Architecture invariant: names objects, never blobs of a repository; knows no metadata.

mod checked;
mod checksum;
pub mod contract;
mod faulty;
mod footer;
mod fs;
mod marker;
mod memory;
mod s3;
mod store;
mod verifying;

pub use checked::{Block, BlockStream, CheckedReader};
pub use checksum::{BlockChecksums, BlockHasher, block_checksum};
pub use faulty::{Fault, FaultPlan, FaultyStore, Fired, InvalidRule, Operation};
pub use fs::{FsOptions, FsStore};
pub use memory::MemoryStore;
pub use s3::{S3ChecksumMode, S3Credentials, S3Encryption, S3Options, S3Store, Swept};
pub use store::{BlobStore, ByteStream, Footprint, ObjectInfo, ObjectWriter, StoreError};
pub use verifying::{Finished, VerifyingWriter, WriteError};

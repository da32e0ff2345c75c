//! What an operator says of a bucket, and the bounds of the store in it.

use std::path::PathBuf;
use std::time::Duration;

use crate::BlockChecksums;

/// A bucket, and how to speak to it.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket's name. It must be there.
    pub bucket: String,
    /// What all keys begin with, so that several stores may share a bucket; may be empty.
    pub prefix: String,
    /// The server's address, for others than AWS: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The server's region; else that of the environment, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is named in the path (`true`) or in the host name.
    pub path_style: bool,
    /// Keys, instead of those that the standard chain finds (environment, profile, web identity, container, instance).
    pub credentials: Option<S3Credentials>,
    /// A file of certificates in PEM to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Encryption at rest, by the server; else what the bucket's own default is.
    pub encryption: Option<S3Encryption>,
    /// The storage class of new objects; else the server's default.
    pub storage_class: Option<String>,
    /// Which of the SDK's checksums go with requests.
    pub checksums: S3ChecksumMode,
    /// The size of parts in bytes, all but the last: at least 5 MiB, a multiple of 256 KiB. An object has at most 10,000.
    pub part_bytes: usize,
    /// How many parts of one upload are sent at once.
    pub part_concurrency: usize,
    /// Memory that all uploads share, in bytes: what is gathered and what is on its way.
    pub upload_memory_bytes: usize,
    /// How many requests run at once; others wait. A download counts until its answer begins.
    pub request_concurrency: usize,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a request may take, the sending of its body included.
    pub attempt_timeout: Duration,
    /// How long a request may take with all of its attempts.
    pub request_timeout: Duration,
    /// How long the completion of an upload may take: some servers copy all of its bytes then.
    pub complete_timeout: Duration,
    /// How long a download may stand still between two pieces.
    pub idle_timeout: Duration,
    /// How often a request is tried, the first time included.
    pub attempts_max: u32,
}

/// A key and its secret.
#[derive(Clone)]
pub struct S3Credentials {
    /// The key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
}

impl std::fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Encryption at rest, by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys of the server (`AES256`).
    Aes256,
    /// With a key of a key management service (`aws:kms`); its default one if none is named.
    Kms {
        /// The key.
        key_id: Option<String>,
    },
}

/// Which of the SDK's checksums go with requests. Atoll has its own of every block in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum S3ChecksumMode {
    /// Those that the operation asks for: the choice for servers other than AWS.
    #[default]
    WhenRequired,
    /// Those that the operation supports.
    WhenSupported,
}

impl S3Options {
    /// Smallest part but the last, in bytes (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
    pub const PART_BYTES_MIN: usize = 5 << 20;
    /// Largest part, in bytes: each is held in memory.
    pub const PART_BYTES_MAX: usize = 512 << 20;
    /// Most requests at once that may be asked for.
    pub const REQUESTS_MAX: usize = 16_384;
    /// Most parts of an object (the same page).
    pub const PARTS_MAX: usize = 10_000;

    /// A bucket at AWS, with bounds that serve most.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            path_style: false,
            credentials: None,
            ca_file: None,
            encryption: None,
            storage_class: None,
            checksums: S3ChecksumMode::default(),
            part_bytes: 8 << 20,
            part_concurrency: 4,
            upload_memory_bytes: 256 << 20,
            request_concurrency: 256,
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(150),
            complete_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(15),
            attempts_max: 4,
        }
    }

    /// What is wrong with the bounds, for who configured them.
    pub fn check(&self) -> Result<(), String> {
        let block = BlockChecksums::BLOCK_BYTES as usize;
        if self.bucket.is_empty() {
            return Err("the store names no bucket".into());
        }
        if self.part_bytes < Self::PART_BYTES_MIN || !self.part_bytes.is_multiple_of(block) {
            return Err(format!(
                "parts of {} bytes cannot be uploaded: give at least {} bytes and a multiple of {block}",
                self.part_bytes,
                Self::PART_BYTES_MIN
            ));
        }
        if self.part_bytes > Self::PART_BYTES_MAX {
            return Err(format!(
                "parts of {} bytes are too large: give at most {}",
                self.part_bytes,
                Self::PART_BYTES_MAX
            ));
        }
        if self.upload_memory_bytes < 2 * self.part_bytes {
            return Err(format!(
                "{} bytes for uploads are too few for parts of {} bytes: give at least twice as many",
                self.upload_memory_bytes, self.part_bytes
            ));
        }
        if self.request_concurrency > Self::REQUESTS_MAX {
            let (asked, max) = (self.request_concurrency, Self::REQUESTS_MAX);
            return Err(format!(
                "{asked} requests at once are more than a node has connections for: give at most {max}"
            ));
        }
        if self.part_concurrency == 0 || self.request_concurrency == 0 || self.attempts_max == 0 {
            return Err("a concurrency or a number of attempts of zero would let nothing through".into());
        }
        Ok(())
    }
}

//! `[store]`: the region's object store.

use std::path::{Path, PathBuf};

use atoll_blobstore::{S3ChecksumMode, S3Credentials, S3Encryption, S3Options};
use serde::{Deserialize, Serialize};

/// `[store]`: the region's object store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub(crate) enum StoreSection {
    /// Files of this machine, or of a mount that all nodes of the region share.
    Fs {
        /// The folder. Not given: `blobs` in the data folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
    },
    /// A bucket of S3, or of a server that speaks as it does.
    S3(Box<S3Section>),
}

impl Default for StoreSection {
    fn default() -> Self {
        Self::Fs { path: None }
    }
}

impl StoreSection {
    /// What is wrong, and what to do about it.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Fs { .. } => Ok(()),
            Self::S3(section) => section.options()?.check().map_err(|problem| format!("[store] {problem}")),
        }
    }
}

/// A bucket, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Section {
    /// The bucket. It must be there.
    pub(crate) bucket: String,
    /// What all keys begin with. Stores of several regions or clusters may share a bucket under prefixes of their own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) prefix: String,
    /// The server, for others than AWS: `http://127.0.0.1:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// The region that requests are signed for. Not given: the environment's, or us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    /// How the bucket is named.
    #[serde(default)]
    pub(crate) addressing: Addressing,
    /// The id of a key. Not given: what the standard chain finds (environment, profile, web identity, instance).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_key_id: Option<String>,
    /// A file with the key's secret, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_access_key_file: Option<PathBuf>,
    /// Certificates in PEM to trust besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Encryption at rest by the server. Not given: the bucket's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
    /// The key of `aws:kms`. Not given: the service's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kms_key_id: Option<String>,
    /// The storage class of new objects; one whose objects can be read at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) storage_class: Option<StorageClass>,
    /// Which of the SDK's checksums go with requests.
    #[serde(default)]
    pub(crate) checksums: Checksums,
    /// The size of an upload's parts, in MiB: times 10,000 it is the size of the largest blob.
    #[serde(default = "part_mib")]
    pub(crate) part_mib: u64,
    /// Memory that all uploads share, in MiB.
    #[serde(default = "upload_memory_mib")]
    pub(crate) upload_memory_mib: u64,
    /// Most requests at once.
    #[serde(default = "requests_max")]
    pub(crate) requests_max: u64,
}

/// How a bucket is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Addressing {
    /// In the path where an endpoint is given, else in the host's name.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host's name.
    VirtualHosted,
}

/// Encryption at rest by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Encryption {
    /// With the server's own keys.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of a key management service.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// Storage classes whose objects can be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "each is S3's own name")]
pub(crate) enum StorageClass {
    Standard,
    ReducedRedundancy,
    StandardIa,
    OnezoneIa,
    IntelligentTiering,
    GlacierIr,
}

/// Which of the SDK's checksums go with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Checksums {
    /// Those that the operation asks for.
    #[default]
    WhenRequired,
    /// Those that it supports.
    WhenSupported,
}

const fn part_mib() -> u64 {
    8
}

const fn upload_memory_mib() -> u64 {
    256
}

const fn requests_max() -> u64 {
    256
}

impl S3Section {
    /// A bucket of a server of one's own.
    pub(crate) fn of_server(endpoint: String, bucket: String, access_key_id: String, secret: PathBuf) -> Self {
        Self {
            bucket,
            prefix: String::new(),
            endpoint: Some(endpoint),
            region: None,
            addressing: Addressing::default(),
            access_key_id: Some(access_key_id),
            secret_access_key_file: Some(secret),
            ca_file: None,
            encryption: None,
            kms_key_id: None,
            storage_class: None,
            checksums: Checksums::default(),
            part_mib: part_mib(),
            upload_memory_mib: upload_memory_mib(),
            requests_max: requests_max(),
        }
    }

    /// What the store is opened with; else what is wrong, and what to do about it.
    pub(crate) fn options(&self) -> Result<S3Options, String> {
        let credentials = match (&self.access_key_id, &self.secret_access_key_file) {
            (Some(id), Some(file)) => {
                Some(S3Credentials { access_key_id: id.clone(), secret_access_key: secret(file)? })
            }
            (None, None) => None,
            _ => return Err("[store] give access_key_id and secret_access_key_file, or neither of them".into()),
        };
        let encryption = match (self.encryption, &self.kms_key_id) {
            (Some(Encryption::Kms), key_id) => Some(S3Encryption::Kms { key_id: key_id.clone() }),
            (_, Some(_)) => return Err("[store] kms_key_id goes with encryption = \"aws:kms\" only".into()),
            (Some(Encryption::Aes256), None) => Some(S3Encryption::Aes256),
            (None, None) => None,
        };
        let path_style = match self.addressing {
            Addressing::Auto => self.endpoint.is_some(),
            Addressing::Path => true,
            Addressing::VirtualHosted => false,
        };
        Ok(S3Options {
            prefix: self.prefix.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style,
            credentials,
            ca_file: self.ca_file.clone(),
            encryption,
            storage_class: self.storage_class.map(StorageClass::name),
            checksums: match self.checksums {
                Checksums::WhenRequired => S3ChecksumMode::WhenRequired,
                Checksums::WhenSupported => S3ChecksumMode::WhenSupported,
            },
            part_bytes: mib(self.part_mib),
            upload_memory_bytes: mib(self.upload_memory_mib),
            request_concurrency: usize::try_from(self.requests_max).unwrap_or(usize::MAX),
            ..S3Options::new(&self.bucket)
        })
    }
}

impl StorageClass {
    fn name(self) -> String {
        match self {
            Self::Standard => "STANDARD",
            Self::ReducedRedundancy => "REDUCED_REDUNDANCY",
            Self::StandardIa => "STANDARD_IA",
            Self::OnezoneIa => "ONEZONE_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::GlacierIr => "GLACIER_IR",
        }
        .to_owned()
    }
}

fn mib(count: u64) -> usize {
    usize::try_from(count.saturating_mul(1 << 20)).unwrap_or(usize::MAX)
}

fn secret(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("[store] secret_access_key_file = \"{}\" cannot be read: {e}", file.display()))?;
    Ok(text.trim().to_owned())
}

//! The operations of S3 that the store is made of, each with its bound, its name and its errors.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ServerSideEncryption, StorageClass,
};
use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;

use super::error::{Cause, Failure, said};
use super::options::{S3ChecksumMode, S3Encryption, S3Options};

/// What is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// An object of the store, if there is none of that key, as far as the server can tell.
    New,
    /// Something of the store's own, if there is none of that key.
    NewAside,
    /// Something of the store's own.
    Aside,
}

/// A part that was sent.
#[derive(Clone, Debug)]
pub(super) struct SentPart {
    /// From 1.
    pub(super) number: usize,
    e_tag: Option<String>,
    crc32: Option<String>,
}

/// What is stored beside an object. At most 2 KiB, names included.
pub(super) type Metadata = HashMap<String, String>;

/// A bucket.
pub(super) struct Api {
    client: Client,
    bucket: String,
    permits: Arc<Semaphore>,
    encryption: Option<S3Encryption>,
    storage_class: Option<StorageClass>,
    complete_timeout: Duration,
    /// Whether the server knows `If-None-Match` of a put, and of a completion; asked until it says no.
    conditional_puts: AtomicBool,
    conditional_completions: AtomicBool,
    idle_timeout: Duration,
    attempts_max: u32,
    /// Whether parts carry a checksum of the SDK's, which an upload has to say when it begins.
    part_checksums: bool,
}

/// What a server says of an object.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) metadata: Metadata,
}

/// The beginning of an answer with bytes.
pub(super) struct Got {
    /// The size of the whole object.
    pub(super) size: u64,
    /// How many bytes come.
    pub(super) length: u64,
    pub(super) body: ByteStream,
}

/// One page of a list of keys.
pub(super) struct Page {
    pub(super) keys: Vec<Listed>,
    pub(super) more: bool,
}

/// A key of a list.
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    /// When it was put, in seconds since 1970 by the server's clock.
    pub(super) modified: Option<i64>,
}

/// An upload that is not complete.
pub(super) struct Unfinished {
    pub(super) key: String,
    pub(super) upload: String,
    /// When it began, in seconds since 1970 by the server's clock.
    pub(super) began: Option<i64>,
}

impl Api {
    pub(super) fn new(client: Client, options: &S3Options) -> Self {
        Self {
            client,
            bucket: options.bucket.clone(),
            permits: Arc::new(Semaphore::new(options.request_concurrency)),
            encryption: options.encryption.clone(),
            storage_class: options.storage_class.as_deref().map(StorageClass::from),
            complete_timeout: options.complete_timeout,
            conditional_puts: AtomicBool::new(true),
            conditional_completions: AtomicBool::new(true),
            idle_timeout: options.idle_timeout,
            attempts_max: options.attempts_max,
            part_checksums: options.checksums == S3ChecksumMode::WhenSupported,
        }
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Puts something in one request.
    pub(super) async fn put(&self, key: &str, body: Bytes, metadata: Metadata, put: Put) -> Result<(), Failure> {
        let conditional = put != Put::Aside && self.conditional_puts.load(Ordering::Relaxed);
        let outcome = self.put_once(key, body.clone(), metadata.clone(), put, conditional).await;
        if !conditional || !outcome.as_ref().is_err_and(|failure| failure.cause == Cause::NotImplemented) {
            return outcome;
        }
        let outcome = self.put_once(key, body, metadata, put, false).await;
        if outcome.is_ok() {
            self.conditional_puts.store(false, Ordering::Relaxed);
        }
        outcome
    }

    async fn put_once(
        &self,
        key: &str,
        body: Bytes,
        metadata: Metadata,
        put: Put,
        conditional: bool,
    ) -> Result<(), Failure> {
        let (encryption, key_id) = self.encryption();
        let request = self.client.put_object().bucket(&self.bucket).key(key).set_metadata(Some(metadata));
        let request = request
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(key_id)
            // What is there for seconds would be paid for by the month in some classes.
            .set_storage_class(self.storage_class.clone().filter(|_| put == Put::New))
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .body(body.into());
        self.call("PutObject", key, request.send()).await.map(drop)
    }

    /// Size and metadata of an object.
    pub(super) async fn head(&self, key: &str) -> Result<Head, Failure> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let found = self.call("HeadObject", key, request.send()).await?;
        let size = found.content_length().and_then(|length| u64::try_from(length).ok());
        let size = size.ok_or_else(|| self.strange("HeadObject", key, "an answer without a length"))?;
        Ok(Head { size, metadata: found.metadata.unwrap_or_default() })
    }

    /// Bytes of an object, from `start` to before `end`; the range is not empty. A server cuts a range that ends too late.
    pub(super) async fn get(&self, key: &str, (start, end): (u64, u64)) -> Result<Got, Failure> {
        let range = format!("bytes={start}-{}", end - 1);
        let request = self.client.get_object().bucket(&self.bucket).key(key).range(range);
        let found = self.call("GetObject", key, request.send()).await?;
        let length = found.content_length().and_then(|length| u64::try_from(length).ok());
        let length = length.ok_or_else(|| self.strange("GetObject", key, "an answer without a length"))?;
        let size = match found.content_range() {
            Some(text) => total(text, start, length)
                .ok_or_else(|| self.strange("GetObject", key, &format!("the range {text:?} of {length} bytes")))?,
            // All of it, which is what was asked for only if that begins at its beginning.
            None if start == 0 => length,
            None => return Err(self.strange("GetObject", key, "the whole object instead of a range")),
        };
        Ok(Got { size, length, body: found.body })
    }

    /// All of a small object, at most `bytes_max` long. A body that ends early is asked for again.
    pub(super) async fn get_all(&self, key: &str, bytes_max: u64) -> Result<Bytes, Failure> {
        let mut attempt = 1;
        loop {
            match self.get_all_once(key, bytes_max).await {
                Err(failure) if failure.cause == Cause::Transient && attempt < self.attempts_max => attempt += 1,
                other => return other,
            }
        }
    }

    async fn get_all_once(&self, key: &str, bytes_max: u64) -> Result<Bytes, Failure> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let mut found = self.call("GetObject", key, request.send()).await?;
        let length = found.content_length().and_then(|length| u64::try_from(length).ok());
        let Some(length) = length.filter(|length| *length <= bytes_max) else {
            return Err(self.strange("GetObject", key, &format!("{length:?} bytes, where at most {bytes_max} are")));
        };
        let ended = |why: &str| Failure {
            cause: Cause::Transient,
            maybe_done: false,
            text: format!("{}: the answer ended early: {why}", self.what("GetObject", key)),
        };
        let mut all = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
        loop {
            match tokio::time::timeout(self.idle_timeout, found.body.next()).await {
                Ok(Some(Ok(piece))) if (all.len() + piece.len()) as u64 <= length => all.extend_from_slice(&piece),
                Ok(Some(Ok(_))) => return Err(ended("it has more bytes than it said")),
                Ok(Some(Err(error))) => return Err(ended(&said(&error))),
                Ok(None) if all.len() as u64 == length => return Ok(all.freeze()),
                Ok(None) => return Err(ended("bytes are missing")),
                Err(_) => return Err(ended("nothing came for too long")),
            }
        }
    }

    /// Removes an object; it is no error if there is none.
    pub(super) async fn delete(&self, key: &str) -> Result<(), Failure> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        match self.call("DeleteObject", key, request.send()).await {
            // A 404 may as well be the bucket's.
            Err(failure) if failure.cause == Cause::Missing => self.head_bucket().await,
            other => other.map(drop),
        }
    }

    /// Keys that begin with a prefix and are greater than `after`, in order.
    pub(super) async fn list(&self, prefix: &str, after: Option<String>, limit: i32) -> Result<Page, Failure> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let request = request.set_start_after(after).max_keys(limit);
        let found = self.call("ListObjectsV2", prefix, request.send()).await?;
        let more = found.is_truncated().unwrap_or(false);
        let objects = found.contents.unwrap_or_default().into_iter();
        let keys = objects.filter_map(|o| {
            let size = o.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            Some(Listed { key: o.key?, size, modified: o.last_modified.map(|at| at.secs()) })
        });
        Ok(Page { keys: keys.collect(), more })
    }

    /// Whether the bucket is there.
    pub(super) async fn head_bucket(&self) -> Result<(), Failure> {
        let request = self.client.head_bucket().bucket(&self.bucket);
        match self.call("HeadBucket", "", request.send()).await {
            Err(failure) if failure.cause == Cause::Missing => Err(Failure {
                cause: Cause::NoBucket,
                text: format!("{}; make the bucket, or correct its name in the node's configuration", failure.text),
                ..failure
            }),
            other => other.map(drop),
        }
    }

    /// Begins an upload in parts, and gives its id.
    pub(super) async fn create_upload(&self, key: &str, metadata: Metadata) -> Result<String, Failure> {
        let (encryption, key_id) = self.encryption();
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let request = request
            .set_metadata(Some(metadata))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(key_id)
            .set_storage_class(self.storage_class.clone())
            .set_checksum_algorithm(self.part_checksums.then_some(ChecksumAlgorithm::Crc32));
        let created = self.call("CreateMultipartUpload", key, request.send()).await?;
        created.upload_id.ok_or_else(|| self.strange("CreateMultipartUpload", key, "an answer without an upload's id"))
    }

    /// Sends a part; numbers begin at 1.
    pub(super) async fn upload_part(
        &self,
        key: &str,
        upload: &str,
        number: usize,
        body: Bytes,
    ) -> Result<SentPart, Failure> {
        let request = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(upload);
        let request = request.part_number(i32::try_from(number).unwrap_or(i32::MAX)).body(body.into());
        let sent = self.call("UploadPart", key, request.send()).await?;
        Ok(SentPart { number, e_tag: sent.e_tag, crc32: sent.checksum_crc32 })
    }

    /// Makes an object of parts, which are in order. Only if there is none of that key, as far as the server can tell.
    ///
    /// Tried once: what a server says to a second try need not be about this upload. Whether there is an object then says
    /// more than the answer.
    pub(super) async fn complete_upload(&self, key: &str, upload: &str, parts: &[SentPart]) -> Result<(), Failure> {
        let conditional = self.conditional_completions.load(Ordering::Relaxed);
        let outcome = self.complete_once(key, upload, parts, conditional).await;
        if !conditional || !outcome.as_ref().is_err_and(|failure| failure.cause == Cause::NotImplemented) {
            return outcome;
        }
        let outcome = self.complete_once(key, upload, parts, false).await;
        if outcome.is_ok() {
            self.conditional_completions.store(false, Ordering::Relaxed);
        }
        outcome
    }

    async fn complete_once(
        &self,
        key: &str,
        upload: &str,
        parts: &[SentPart],
        conditional: bool,
    ) -> Result<(), Failure> {
        let parts = parts.iter().map(SentPart::completed).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload);
        let request = request.multipart_upload(parts).set_if_none_match(conditional.then(|| "*".to_owned()));
        let patience = TimeoutConfig::builder()
            .operation_attempt_timeout(self.complete_timeout)
            .operation_timeout(self.complete_timeout)
            .build();
        let patient =
            aws_sdk_s3::config::Config::builder().timeout_config(patience).retry_config(RetryConfig::disabled());
        self.call("CompleteMultipartUpload", key, request.customize().config_override(patient).send()).await.map(drop)
    }

    /// Gives an upload up; it is no error if it is not there any more.
    pub(super) async fn abort_upload(&self, key: &str, upload: &str) -> Result<(), Failure> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload);
        match self.call("AbortMultipartUpload", key, request.send()).await {
            Err(failure) if failure.cause == Cause::NoUpload => Ok(()),
            Err(failure) if failure.cause == Cause::Missing => self.head_bucket().await,
            other => other.map(drop),
        }
    }

    /// Uploads that are not complete, of keys greater than `after`, in the order of their keys; and where to go on, if
    /// there are more.
    pub(super) async fn list_uploads(
        &self,
        prefix: &str,
        after: Option<String>,
    ) -> Result<(Vec<Unfinished>, Option<String>), Failure> {
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix).set_key_marker(after);
        let found = self.call("ListMultipartUploads", prefix, request.send()).await?;
        let more = found.is_truncated().unwrap_or(false);
        let uploads = found.uploads.unwrap_or_default().into_iter();
        let known: Vec<Unfinished> = uploads
            .filter_map(|u| {
                Some(Unfinished { key: u.key?, upload: u.upload_id?, began: u.initiated.map(|began| began.secs()) })
            })
            .collect();
        let next = known.last().filter(|_| more).map(|last| last.key.clone());
        Ok((known, next))
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.encryption {
            None => (None, None),
            Some(S3Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(S3Encryption::Kms { key_id }) => (Some(ServerSideEncryption::AwsKms), key_id.clone()),
        }
    }

    /// Runs a request when there is room for one more.
    async fn call<T, E>(
        &self,
        operation: &str,
        key: &str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        // It is never closed: whoever waits gets one in the end.
        let _permit = self.permits.acquire().await;
        request.await.map_err(|error| Failure::of(&self.what(operation, key), &error))
    }

    fn strange(&self, operation: &str, key: &str, what: &str) -> Failure {
        Failure {
            cause: Cause::Other,
            maybe_done: true,
            text: format!("{}: the server answered with {what}", self.what(operation, key)),
        }
    }

    fn what(&self, operation: &str, key: &str) -> String {
        format!("{operation} of {}/{key}", self.bucket)
    }
}

impl SentPart {
    fn completed(&self) -> CompletedPart {
        CompletedPart::builder()
            .part_number(i32::try_from(self.number).unwrap_or(i32::MAX))
            .set_e_tag(self.e_tag.clone())
            .set_checksum_crc32(self.crc32.clone())
            .build()
    }
}

/// The size that a `Content-Range` names (RFC 9110, section 14.4), if the rest of it is what was asked for.
fn total(text: &str, start: u64, length: u64) -> Option<u64> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let size: u64 = size.parse().ok()?;
    (first == start && last.checked_sub(first)?.checked_add(1)? == length && last < size).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_not_what_was_asked_for_is_refused() {
        assert_eq!(total("bytes 5-9/100", 5, 5), Some(100));
        for (text, start, length) in [
            ("bytes 5-9/100", 4, 5),
            ("bytes 5-9/100", 5, 4),
            ("bytes 5-9/9", 5, 5),
            ("bytes 9-5/100", 9, 5),
            ("bytes 5-9/*", 5, 5),
            ("5-9/100", 5, 5),
            ("bytes 0-18446744073709551615/1", 0, 0),
        ] {
            assert_eq!(total(text, start, length), None, "{text} {start} {length}");
        }
    }
}

//! Signatures.

use std::ops::Range;
use std::sync::Arc;

use atoll_auth::{Access, Delete, Pull, Push};
use atoll_blobstore::{BlobStore, ByteStream};
use atoll_metadata::Expected;
use atoll_types::{Algorithm, Digest, Reference, RepositoryName, Revision, Tag};
use bytes::Bytes;

use crate::*;

/// Where a manifest is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutTarget {
    /// A tag, or the body's digest.
    pub reference: Reference,
    /// More tags to move to it; all or none move.
    pub extra_tags: Vec<Tag>,
    /// What every tag must be before.
    pub expected: Expected,
}

/// The use cases.
pub struct Registry {}

#[allow(unused_variables, missing_docs, clippy::todo, clippy::unused_async)]
impl Registry {
    pub fn new(
        config: RegistryConfig,
        metadata: Arc<dyn MetadataGroup>,
        blobs: Arc<dyn BlobStore>,
        read_through: Arc<dyn ReadThrough>,
    ) -> Self {
        todo!()
    }
    pub async fn shutdown(&self) {
        todo!()
    }
    pub fn freshness(&self) -> Freshness {
        todo!()
    }
    pub async fn get_manifest(
        &self,
        access: &Access<Pull>,
        reference: &Reference,
        options: &ReadOptions,
    ) -> Result<ManifestAnswer, RegistryError> {
        todo!()
    }
    pub async fn head_manifest(
        &self,
        access: &Access<Pull>,
        reference: &Reference,
        options: &ReadOptions,
    ) -> Result<ManifestHead, RegistryError> {
        todo!()
    }
    pub async fn put_manifest(
        &self,
        access: &Access<Push>,
        target: PutTarget,
        content_type: Option<&str>,
        body: Bytes,
        options: &WriteOptions,
    ) -> Result<PutAnswer, RegistryError> {
        todo!()
    }
    pub async fn delete_manifest(
        &self,
        access: &Access<Delete>,
        reference: &Reference,
        options: &WriteOptions,
    ) -> Result<Revision, RegistryError> {
        todo!()
    }
    pub async fn list_tags(
        &self,
        access: &Access<Pull>,
        last: Option<&str>,
        n: usize,
        options: &ReadOptions,
    ) -> Result<Page<Tag>, RegistryError> {
        todo!()
    }
    pub async fn catalog(
        &self,
        last: Option<&str>,
        n: usize,
        options: &ReadOptions,
    ) -> Result<Page<RepositoryName>, RegistryError> {
        todo!()
    }
    pub async fn referrers(
        &self,
        access: &Access<Pull>,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<Digest>,
        options: &ReadOptions,
    ) -> Result<ReferrersPage, RegistryError> {
        todo!()
    }
    pub async fn head_blob(
        &self,
        access: &Access<Pull>,
        digest: &Digest,
        options: &ReadOptions,
    ) -> Result<BlobHandle, RegistryError> {
        todo!()
    }
    pub async fn open_blob(
        &self,
        access: &Access<Pull>,
        digest: &Digest,
        options: &ReadOptions,
    ) -> Result<BlobHandle, RegistryError> {
        todo!()
    }
    pub async fn read_blob(&self, blob: &BlobHandle, range: Range<u64>) -> Result<ByteStream, RegistryError> {
        todo!()
    }
    pub async fn delete_blob(
        &self,
        access: &Access<Delete>,
        digest: &Digest,
        options: &WriteOptions,
    ) -> Result<Revision, RegistryError> {
        todo!()
    }
    pub async fn mount(
        &self,
        access: &Access<Push>,
        digest: &Digest,
        from: Option<&Access<Pull>>,
        options: &WriteOptions,
    ) -> Result<Option<Linked>, RegistryError> {
        todo!()
    }
    pub fn session_owner(&self, session: &str) -> Owner {
        todo!()
    }
    pub async fn start_upload(
        &self,
        access: &Access<Push>,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadStatus, RegistryError> {
        todo!()
    }
    pub async fn upload_status(&self, access: &Access<Push>, id: &SessionId) -> Result<UploadStatus, RegistryError> {
        todo!()
    }
    pub async fn append(
        &self,
        access: &Access<Push>,
        id: &SessionId,
        start: Option<u64>,
        length: Option<u64>,
        body: impl Body,
    ) -> Result<UploadStatus, RegistryError> {
        todo!()
    }
    #[allow(clippy::too_many_arguments)]
    pub async fn finish_upload(
        &self,
        access: &Access<Push>,
        id: &SessionId,
        digest: &Digest,
        start: Option<u64>,
        length: Option<u64>,
        body: impl Body,
        options: &WriteOptions,
    ) -> Result<Linked, RegistryError> {
        todo!()
    }
    pub async fn upload_whole(
        &self,
        access: &Access<Push>,
        digest: &Digest,
        length: Option<u64>,
        body: impl Body,
        options: &WriteOptions,
    ) -> Result<Linked, RegistryError> {
        todo!()
    }
    pub async fn cancel_upload(&self, access: &Access<Push>, id: &SessionId) -> Result<(), RegistryError> {
        todo!()
    }
}

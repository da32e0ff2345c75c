//! Two regions in one process: the real use cases over the real state machine and real stores.

use std::sync::Arc;
use std::time::Duration;

use atoll_auth::{Access, Action, Authorizer, Identity, OpenAuthorizer};
use atoll_blobstore::{BlobStore, ByteStream, FsOptions, FsStore, MemoryStore, StoreError, VerifyingWriter};
use atoll_metadata::{Command, CopyItem, Expected, read};
use atoll_registry::{
    Consistency, Linked, ManifestAnswer, ManifestBytes, PutAnswer, PutTarget, ReadOptions, ReadThrough, Registry,
    RegistryConfig, RegistryError, WriteOptions,
};
use atoll_testkit::{LocalGroup, LocalNode, OtherRegions};
use atoll_types::{Algorithm, Digest, NodeId, ObjectName, Reference, RegionId, RepositoryName, StoreId};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const REPOSITORY: &str = "team/app";
const DEADLINE: Duration = Duration::from_secs(60);

/// A region of one node.
pub(crate) struct Region {
    pub(crate) name: RegionId,
    pub(crate) store_id: StoreId,
    pub(crate) store: MemoryStore,
    pub(crate) node: Arc<LocalNode>,
    pub(crate) others: Arc<OtherRegions>,
    pub(crate) registry: Arc<Registry>,
}

impl Region {
    /// The use cases of this region over an object store in a folder.
    pub(crate) fn registry_in(&self, folder: &std::path::Path) -> Registry {
        let config = RegistryConfig::new(self.name.clone(), NodeId(9), self.store_id);
        let store = Arc::new(FsStore::open(folder.to_owned(), FsOptions::default()).unwrap());
        Registry::new(config, self.node.clone(), store, self.others.clone())
    }

    /// The use cases of this region, with another way to other regions.
    pub(crate) fn registry_over(&self, read_through: Arc<dyn ReadThrough>) -> Registry {
        let config = RegistryConfig::new(self.name.clone(), NodeId(9), self.store_id);
        Registry::new(config, self.node.clone(), Arc::new(self.store.clone()), read_through)
    }
}

pub(crate) struct World {
    pub(crate) group: Arc<LocalGroup>,
    pub(crate) us: Region,
    pub(crate) eu: Region,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::configured(|config| config)
    }

    pub(crate) fn configured(change: impl Fn(RegistryConfig) -> RegistryConfig) -> Self {
        let group = LocalGroup::new().unwrap();
        let stores = [("us-east", MemoryStore::new(1 << 30)), ("eu-west", MemoryStore::new(1 << 30))];
        let region = |nth: usize| {
            let ((name, store), (other, other_store)) = (&stores[nth], &stores[1 - nth]);
            let (name, store_id, id): (RegionId, _, _) = (name.parse().unwrap(), StoreId::random(), NodeId(nth as u64));
            group.add_region(&name, store_id).unwrap();
            let node = group.node(id);
            let other: (RegionId, Arc<dyn BlobStore>) = (other.parse().unwrap(), Arc::new(other_store.clone()));
            let others = OtherRegions::new(group.clone(), [other]);
            let config = change(RegistryConfig::new(name.clone(), id, store_id));
            let registry = Arc::new(Registry::new(config, node.clone(), Arc::new(store.clone()), others.clone()));
            Region { name, store_id, store: store.clone(), node, others, registry }
        };
        let (us, eu) = (region(0), region(1));
        Self { group, us, eu }
    }

    /// Puts a copy of a blob into a region, as its fetcher does.
    pub(crate) async fn copy_to(&self, region: &Region, content: &Bytes) -> ObjectName {
        let digest = Digest::sha256(content);
        let object = ObjectName::random(0);
        let store: Arc<dyn BlobStore> = Arc::new(region.store.clone());
        let mut writer = VerifyingWriter::create(&store, object, Algorithm::Sha256).await.unwrap();
        writer.write(content.clone()).await.unwrap();
        writer.finish(&digest).await.unwrap();
        let copies = vec![CopyItem { digest, size: content.len() as u64, object }];
        self.group.must(Command::RecordCopies { region: region.name.clone(), store: region.store_id, copies }).unwrap();
        assert_eq!(self.copy(region, &digest), Some(object));
        object
    }

    /// The object that is recorded as a region's copy.
    pub(crate) fn copy(&self, region: &Region, digest: &Digest) -> Option<ObjectName> {
        let blob = self.group.read(|kv| read::blob(kv, digest)).unwrap()?;
        blob.copies.into_iter().find(|(name, _)| *name == region.name).map(|(_, object)| object)
    }
}

impl Region {
    pub(crate) async fn push_blob(&self, repository: &str, content: &Bytes) -> Linked {
        let (digest, length) = (Digest::sha256(content), Some(content.len() as u64));
        self.registry.upload_whole(&access(repository), &digest, length, whole(content), &write()).await.unwrap()
    }

    pub(crate) async fn put(&self, reference: &str, body: &Bytes) -> Result<PutAnswer, RegistryError> {
        self.put_to(reference, body, Expected::Any).await
    }

    pub(crate) async fn put_to(
        &self,
        reference: &str,
        body: &Bytes,
        expected: Expected,
    ) -> Result<PutAnswer, RegistryError> {
        let target = PutTarget { reference: reference.parse().unwrap(), extra_tags: Vec::new(), expected };
        let registry = &self.registry;
        registry.put_manifest(&access(REPOSITORY), target, Some(OCI_MANIFEST), body.clone(), &write()).await
    }

    /// Pushes an image of one layer, and returns its manifest.
    pub(crate) async fn push_image(&self, tag: &str, seed: &str) -> Bytes {
        let manifest = self.push_parts(seed, serde_json::Value::Null).await;
        self.put(tag, &manifest).await.unwrap();
        manifest
    }

    /// Pushes config and layer, and returns a manifest with some more members.
    pub(crate) async fn push_parts(&self, seed: &str, more: serde_json::Value) -> Bytes {
        let (config, layer) = (Bytes::from(format!("{{\"{seed}\":1}}")), Bytes::from(format!("layer of {seed}")));
        self.push_blob(REPOSITORY, &config).await;
        self.push_blob(REPOSITORY, &layer).await;
        image(&config, &layer, more)
    }

    pub(crate) async fn get(&self, reference: &str) -> Result<Bytes, RegistryError> {
        let reference: Reference = reference.parse().unwrap();
        let manifest = self.registry.get_manifest(&access(REPOSITORY), &reference, &options()).await?;
        Ok(bytes_of(manifest).await)
    }

    pub(crate) async fn blob(&self, digest: &Digest) -> Result<Bytes, RegistryError> {
        let handle = self.registry.open_blob(&access(REPOSITORY), digest, &options()).await?;
        let size = handle.size;
        Ok(collect(self.registry.read_blob(&handle, 0..size).await?).await?)
    }

    /// How many objects the store has.
    pub(crate) async fn objects(&self) -> usize {
        self.store.list(None, 1_000).await.unwrap().len()
    }
}

pub(crate) fn image(config: &Bytes, layer: &Bytes, more: serde_json::Value) -> Bytes {
    let descriptor = |media_type: &str, content: &Bytes| {
        serde_json::json!({
            "mediaType": media_type, "digest": Digest::sha256(content).to_string(), "size": content.len()
        })
    };
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        manifest[key] = value.clone();
    }
    manifest.to_string().into()
}

/// Every test identity may do everything.
pub(crate) fn access<A: Action>(repository: &str) -> Access<A> {
    access_of("", repository)
}

pub(crate) fn access_of<A: Action>(name: &str, repository: &str) -> Access<A> {
    let repository: RepositoryName = repository.parse().unwrap();
    let identity = Identity { name: name.to_owned(), address: "192.0.2.1".to_owned() };
    (&OpenAuthorizer as &dyn Authorizer).access(&identity, &repository).unwrap()
}

pub(crate) fn options() -> ReadOptions {
    ReadOptions { consistency: Consistency::Default, min_revision: None, deadline: Instant::now() + DEADLINE }
}

pub(crate) fn write() -> WriteOptions {
    WriteOptions { request: None, client_address: String::new(), deadline: Instant::now() + DEADLINE }
}

pub(crate) type Pieces = futures::stream::Iter<std::vec::IntoIter<std::io::Result<Bytes>>>;

pub(crate) fn whole(content: &Bytes) -> Pieces {
    pieces(vec![Ok(content.clone())])
}

pub(crate) fn pieces(pieces: Vec<std::io::Result<Bytes>>) -> Pieces {
    futures::stream::iter(pieces)
}

/// The body of a manifest.
pub(crate) async fn bytes_of(manifest: ManifestAnswer) -> Bytes {
    match manifest.body {
        ManifestBytes::Whole(bytes) => bytes,
        ManifestBytes::Stream(stream) => collect(stream).await.unwrap(),
    }
}

pub(crate) async fn collect(mut stream: ByteStream) -> Result<Bytes, StoreError> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all.into())
}

/// Bytes that differ from block to block.
pub(crate) fn content(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

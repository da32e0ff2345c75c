//! Commands.

use std::collections::BTreeSet;

use atoll_types::{NodeId, Revision};
use bytes::Bytes;
use prost::{Message, Oneof};

use super::{
    Decoded, InvalidEntry, Object, at_most, cluster, digest, digest_bytes, digest_opt, invalid, message, missing,
    parse, store, store_opt, text,
};
use crate::{
    BlobSource, Command, CopyItem, DropItem, Expected, LinkItem, ManifestBody, ManifestReference, NodeRole,
    PutManifest, RegisterNode, TagUpdate,
};

/// Longest media type or artifact type, in bytes.
const TYPE_BYTES_MAX: usize = 1_024;
/// Longest address or duty, in bytes.
const NAME_BYTES_MAX: usize = 512;

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommandMessage {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    InitCluster(InitClusterMessage),
    #[prost(message, tag = "2")]
    LinkBlob(LinkBlobMessage),
    #[prost(message, tag = "3")]
    PutManifest(PutManifestMessage),
    #[prost(message, tag = "4")]
    DeleteManifest(InRepository),
    #[prost(message, tag = "5")]
    DeleteTag(TagMessage),
    #[prost(message, tag = "6")]
    DeleteBlob(InRepository),
    #[prost(message, tag = "7")]
    RecordCopies(CopiesMessage),
    #[prost(message, tag = "8")]
    DropCopies(CopiesMessage),
    #[prost(message, tag = "9")]
    ForgetGarbage(GarbageMessage),
    #[prost(message, tag = "10")]
    RegisterRegion(RegionMessage),
    #[prost(message, tag = "11")]
    RegisterNode(NodeMessage),
    #[prost(message, tag = "12")]
    SetStore(StoreMessage),
    #[prost(message, tag = "13")]
    AcquireLease(LeaseMessage),
    #[prost(message, tag = "14")]
    AdvanceSweep(RegionMessage),
    #[prost(message, tag = "15")]
    SetReplicationPaused(RegionMessage),
    #[prost(uint64, tag = "16")]
    ContinueJob(u64),
    #[prost(message, tag = "17")]
    CondemnLinks(LinksMessage),
    #[prost(message, tag = "18")]
    DropLinks(LinksMessage),
    #[prost(uint64, tag = "19")]
    RemoveNode(u64),
}

#[derive(Clone, PartialEq, Message)]
struct InitClusterMessage {
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    #[prost(uint64, tag = "2")]
    epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LinkBlobMessage {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "3")]
    size: u64,
    #[prost(message, optional, tag = "4")]
    uploaded: Option<UploadedMessage>,
    #[prost(string, optional, tag = "5")]
    mounted_from: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct UploadedMessage {
    #[prost(string, tag = "1")]
    region: String,
    #[prost(bytes = "vec", tag = "2")]
    store: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    object: Option<Object>,
}

#[derive(Clone, PartialEq, Message)]
struct PutManifestMessage {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(string, tag = "3")]
    media_type: String,
    #[prost(bytes = "bytes", optional, tag = "4")]
    inline: Option<Bytes>,
    #[prost(uint64, optional, tag = "5")]
    stored_bytes: Option<u64>,
    #[prost(message, repeated, tag = "6")]
    references: Vec<ReferenceMessage>,
    #[prost(bytes = "vec", tag = "7")]
    subject: Vec<u8>,
    #[prost(string, tag = "8")]
    artifact_type: String,
    #[prost(message, optional, tag = "9")]
    annotations: Option<AnnotationsMessage>,
    #[prost(message, repeated, tag = "10")]
    tags: Vec<TagUpdateMessage>,
}

#[derive(Clone, PartialEq, Message)]
/// A reference, in a command and in the state.
pub(crate) struct ReferenceMessage {
    /// What is referred to.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    /// Of a blob; absent for a manifest.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) blob_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnnotationsMessage {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

impl AnnotationsMessage {
    pub(crate) fn of(pairs: &[(String, String)]) -> Self {
        let pair = |(key, value): &(String, String)| Pair { key: key.clone(), value: value.clone() };
        Self { pairs: pairs.iter().map(pair).collect() }
    }

    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
    }
}

#[derive(Clone, PartialEq, Message)]
struct TagUpdateMessage {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(bool, tag = "2")]
    expect_absent: bool,
    #[prost(bytes = "vec", tag = "3")]
    expect_digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct InRepository {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TagMessage {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(string, tag = "2")]
    tag: String,
}

#[derive(Clone, PartialEq, Message)]
struct CopiesMessage {
    #[prost(string, tag = "1")]
    region: String,
    #[prost(bytes = "vec", tag = "2")]
    store: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    copies: Vec<CopyMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct CopyMessage {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(message, optional, tag = "3")]
    object: Option<Object>,
}

#[derive(Clone, PartialEq, Message)]
struct GarbageMessage {
    #[prost(string, tag = "1")]
    region: String,
    #[prost(message, repeated, tag = "2")]
    objects: Vec<GarbageItemMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct GarbageItemMessage {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    object: Option<Object>,
}

#[derive(Clone, PartialEq, Message)]
struct RegionMessage {
    #[prost(string, tag = "1")]
    region: String,
    /// Of SetReplicationPaused alone.
    #[prost(bool, tag = "2")]
    paused: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoreMessage {
    #[prost(string, tag = "1")]
    region: String,
    #[prost(bytes = "vec", tag = "2")]
    store: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    replaces: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseMessage {
    #[prost(string, tag = "1")]
    region: String,
    #[prost(string, tag = "2")]
    duty: String,
    #[prost(uint64, tag = "3")]
    holder: u64,
    #[prost(uint64, tag = "4")]
    ttl_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LinksMessage {
    #[prost(message, repeated, tag = "1")]
    links: Vec<LinkItemMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct LinkItemMessage {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "3")]
    revision: u64,
}

/// A node, in a command and in the state.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeMessage {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    region: String,
    #[prost(uint32, tag = "4")]
    role: u32,
    #[prost(string, tag = "5")]
    grpc_address: String,
    #[prost(string, tag = "6")]
    http_address: String,
    #[prost(string, tag = "7")]
    admin_address: String,
    #[prost(bytes = "vec", tag = "8")]
    store: Vec<u8>,
    #[prost(string, tag = "9")]
    store_kind: String,
    #[prost(uint32, tag = "10")]
    feature_level: u32,
}

impl Command {
    /// As bytes, for a write that is forwarded to the leader.
    pub fn encode(&self) -> Vec<u8> {
        CommandMessage::of(self).encode_to_vec()
    }

    /// The inverse of [`Command::encode`]; checks everything.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        Self::of(message::<CommandMessage>("command", bytes)?)
    }

    pub(super) fn of(message: CommandMessage) -> Decoded<Self> {
        match message.kind.ok_or_else(|| missing("command"))? {
            Kind::InitCluster(m) => Ok(Self::InitCluster { cluster: cluster(&m.cluster)?, epoch: m.epoch }),
            Kind::LinkBlob(m) => m.checked(),
            Kind::PutManifest(m) => Ok(Self::PutManifest(Box::new(m.checked()?))),
            Kind::DeleteManifest(m) => {
                Ok(Self::DeleteManifest { repository: parse("repository", &m.repository)?, digest: digest(&m.digest)? })
            }
            Kind::DeleteBlob(m) => {
                Ok(Self::DeleteBlob { repository: parse("repository", &m.repository)?, digest: digest(&m.digest)? })
            }
            Kind::DeleteTag(m) => {
                Ok(Self::DeleteTag { repository: parse("repository", &m.repository)?, tag: parse("tag", &m.tag)? })
            }
            Kind::RecordCopies(m) => m.recorded(),
            Kind::DropCopies(m) => m.dropped(),
            Kind::ForgetGarbage(m) => m.checked(),
            Kind::RegisterRegion(m) => Ok(Self::RegisterRegion { region: parse("region", &m.region)? }),
            Kind::RegisterNode(m) => Ok(Self::RegisterNode(Box::new(m.checked()?))),
            Kind::SetStore(m) => Ok(Self::SetStore {
                region: parse("region", &m.region)?,
                store: store(&m.store)?,
                replaces: store_opt(&m.replaces)?,
            }),
            Kind::AcquireLease(m) => Ok(Self::AcquireLease {
                region: parse("region", &m.region)?,
                duty: text("duty", m.duty, NAME_BYTES_MAX)?,
                holder: NodeId(m.holder),
                ttl_ms: m.ttl_ms,
            }),
            Kind::AdvanceSweep(m) => Ok(Self::AdvanceSweep { region: parse("region", &m.region)? }),
            Kind::SetReplicationPaused(m) => {
                Ok(Self::SetReplicationPaused { region: parse("region", &m.region)?, paused: m.paused })
            }
            Kind::ContinueJob(job) => Ok(Self::ContinueJob { job: Revision(job) }),
            Kind::CondemnLinks(m) => Ok(Self::CondemnLinks { links: m.checked()? }),
            Kind::DropLinks(m) => Ok(Self::DropLinks { links: m.checked()? }),
            Kind::RemoveNode(node) => Ok(Self::RemoveNode { node: NodeId(node) }),
        }
    }
}

impl CommandMessage {
    pub(super) fn of(command: &Command) -> Self {
        let in_repository = |repository: &atoll_types::RepositoryName, digest: &atoll_types::Digest| InRepository {
            repository: repository.to_string(),
            digest: digest.to_bytes(),
        };
        let region = |region: &atoll_types::RegionId, paused| RegionMessage { region: region.to_string(), paused };
        let kind = match command {
            Command::InitCluster { cluster, epoch } => {
                Kind::InitCluster(InitClusterMessage { cluster: cluster.as_bytes().to_vec(), epoch: *epoch })
            }
            Command::LinkBlob { repository, digest, size, source } => {
                Kind::LinkBlob(LinkBlobMessage::of(repository, digest, *size, source))
            }
            Command::PutManifest(put) => Kind::PutManifest(PutManifestMessage::of(put)),
            Command::DeleteManifest { repository, digest } => Kind::DeleteManifest(in_repository(repository, digest)),
            Command::DeleteTag { repository, tag } => {
                Kind::DeleteTag(TagMessage { repository: repository.to_string(), tag: tag.to_string() })
            }
            Command::DeleteBlob { repository, digest } => Kind::DeleteBlob(in_repository(repository, digest)),
            Command::RecordCopies { region, store, copies } => Kind::RecordCopies(CopiesMessage {
                region: region.to_string(),
                store: store.as_bytes().to_vec(),
                copies: copies.iter().map(|c| CopyMessage::of(&c.digest, c.size, &c.object)).collect(),
            }),
            Command::DropCopies { region, copies } => Kind::DropCopies(CopiesMessage {
                region: region.to_string(),
                store: Vec::new(),
                copies: copies.iter().map(|c| CopyMessage::of(&c.digest, 0, &c.object)).collect(),
            }),
            Command::ForgetGarbage { region, objects } => Kind::ForgetGarbage(GarbageMessage {
                region: region.to_string(),
                objects: objects
                    .iter()
                    .map(|(revision, object)| GarbageItemMessage { revision: revision.0, object: Object::of(object) })
                    .collect(),
            }),
            Command::RegisterRegion { region: name } => Kind::RegisterRegion(region(name, false)),
            Command::RegisterNode(node) => Kind::RegisterNode(NodeMessage::of(node)),
            Command::SetStore { region, store, replaces } => Kind::SetStore(StoreMessage {
                region: region.to_string(),
                store: store.as_bytes().to_vec(),
                replaces: replaces.map(|s| s.as_bytes().to_vec()).unwrap_or_default(),
            }),
            Command::AcquireLease { region, duty, holder, ttl_ms } => Kind::AcquireLease(LeaseMessage {
                region: region.to_string(),
                duty: duty.clone(),
                holder: holder.0,
                ttl_ms: *ttl_ms,
            }),
            Command::AdvanceSweep { region: name } => Kind::AdvanceSweep(region(name, false)),
            Command::SetReplicationPaused { region: name, paused } => Kind::SetReplicationPaused(region(name, *paused)),
            Command::ContinueJob { job } => Kind::ContinueJob(job.0),
            Command::CondemnLinks { links } => Kind::CondemnLinks(LinksMessage::of(links)),
            Command::DropLinks { links } => Kind::DropLinks(LinksMessage::of(links)),
            Command::RemoveNode { node } => Kind::RemoveNode(node.0),
        };
        Self { kind: Some(kind) }
    }
}

impl LinkBlobMessage {
    fn of(
        repository: &atoll_types::RepositoryName,
        digest: &atoll_types::Digest,
        size: u64,
        source: &BlobSource,
    ) -> Self {
        let (uploaded, mounted_from) = match source {
            BlobSource::Uploaded { region, store, object } => {
                let store = store.as_bytes().to_vec();
                (Some(UploadedMessage { region: region.to_string(), store, object: Object::of(object) }), None)
            }
            BlobSource::Mounted { from } => (None, Some(from.to_string())),
        };
        Self { repository: repository.to_string(), digest: digest.to_bytes(), size, uploaded, mounted_from }
    }

    fn checked(self) -> Decoded<Command> {
        let source = match (self.uploaded, self.mounted_from) {
            (Some(m), None) => BlobSource::Uploaded {
                region: parse("region", &m.region)?,
                store: store(&m.store)?,
                object: Object::name(m.object.as_ref())?,
            },
            (None, Some(from)) => BlobSource::Mounted { from: parse("repository", &from)? },
            _ => return Err(missing("source of a blob")),
        };
        let repository = parse("repository", &self.repository)?;
        Ok(Command::LinkBlob { repository, digest: digest(&self.digest)?, size: self.size, source })
    }
}

impl PutManifestMessage {
    fn of(put: &PutManifest) -> Self {
        let (inline, stored_bytes) = match &put.body {
            ManifestBody::Inline(body) => (Some(body.clone()), None),
            ManifestBody::Stored { size } => (None, Some(*size)),
        };
        Self {
            repository: put.repository.to_string(),
            digest: put.digest.to_bytes(),
            media_type: put.media_type.clone(),
            inline,
            stored_bytes,
            references: put.references.iter().map(ReferenceMessage::of).collect(),
            subject: digest_bytes(put.subject.as_ref()),
            artifact_type: put.artifact_type.clone(),
            annotations: put.annotations.as_deref().map(AnnotationsMessage::of),
            tags: put.tags.iter().map(TagUpdateMessage::of).collect(),
        }
    }

    fn checked(self) -> Decoded<PutManifest> {
        at_most("references", &self.references, Command::REFERENCES_MAX)?;
        at_most("tags", &self.tags, Command::TAGS_MAX)?;
        let body = match (self.inline, self.stored_bytes) {
            (Some(body), None) => inline(body)?,
            (None, Some(size)) => ManifestBody::Stored { size },
            _ => return Err(missing("body of a manifest")),
        };
        let subject = digest_opt(&self.subject)?;
        let annotations = self.annotations.map(AnnotationsMessage::into_pairs);
        if annotations.is_some() && (subject.is_none() || matches!(body, ManifestBody::Stored { .. })) {
            return Err(invalid("annotations", "they travel only with a subject and an inline body"));
        }
        Ok(PutManifest {
            repository: parse("repository", &self.repository)?,
            digest: digest(&self.digest)?,
            media_type: text("media type", self.media_type, TYPE_BYTES_MAX)?,
            body,
            references: self.references.into_iter().map(ReferenceMessage::checked).collect::<Decoded<_>>()?,
            subject,
            artifact_type: text("artifact type", self.artifact_type, TYPE_BYTES_MAX)?,
            annotations: annotations.map(bounded_annotations).transpose()?,
            tags: distinct(self.tags.into_iter().map(TagUpdateMessage::checked).collect::<Decoded<_>>()?)?,
        })
    }
}

fn inline(body: Bytes) -> Decoded<ManifestBody> {
    if body.len() > Command::INLINE_BODY_BYTES_MAX {
        return Err(invalid("body of a manifest", "too long to travel in the log"));
    }
    Ok(ManifestBody::Inline(body))
}

/// Annotations come from the body, so they are never longer than it may be.
fn bounded_annotations(pairs: Vec<(String, String)>) -> Decoded<Vec<(String, String)>> {
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > Command::INLINE_BODY_BYTES_MAX || pairs.len() > Command::INLINE_BODY_BYTES_MAX {
        return Err(invalid("annotations", "longer than the body that they come from"));
    }
    Ok(pairs)
}

fn distinct(tags: Vec<TagUpdate>) -> Decoded<Vec<TagUpdate>> {
    let distinct: BTreeSet<_> = tags.iter().map(|update| &update.tag).collect();
    if distinct.len() == tags.len() { Ok(tags) } else { Err(invalid("tags", "a tag stands there twice")) }
}

impl ReferenceMessage {
    pub(crate) fn of(reference: &ManifestReference) -> Self {
        let blob_bytes = match reference {
            ManifestReference::Blob(_, size) => Some(*size),
            ManifestReference::Manifest(_) => None,
        };
        Self { digest: reference.digest().to_bytes(), blob_bytes }
    }

    pub(crate) fn checked(self) -> Decoded<ManifestReference> {
        let digest = digest(&self.digest)?;
        Ok(match self.blob_bytes {
            Some(size) => ManifestReference::Blob(digest, size),
            None => ManifestReference::Manifest(digest),
        })
    }
}

impl TagUpdateMessage {
    fn of(update: &TagUpdate) -> Self {
        let (expect_absent, expect_digest) = match &update.expected {
            Expected::Any => (false, Vec::new()),
            Expected::Absent => (true, Vec::new()),
            Expected::Digest(digest) => (false, digest.to_bytes()),
        };
        Self { tag: update.tag.to_string(), expect_absent, expect_digest }
    }

    fn checked(self) -> Decoded<TagUpdate> {
        let expected = match (self.expect_absent, digest_opt(&self.expect_digest)?) {
            (false, None) => Expected::Any,
            (true, None) => Expected::Absent,
            (false, Some(digest)) => Expected::Digest(digest),
            (true, Some(_)) => return Err(invalid("expectation", "a tag cannot be both absent and a digest")),
        };
        Ok(TagUpdate { tag: parse("tag", &self.tag)?, expected })
    }
}

impl CopyMessage {
    fn of(digest: &atoll_types::Digest, size: u64, object: &atoll_types::ObjectName) -> Self {
        Self { digest: digest.to_bytes(), size, object: Object::of(object) }
    }
}

impl CopiesMessage {
    fn recorded(self) -> Decoded<Command> {
        at_most("copies", &self.copies, Command::ITEMS_MAX)?;
        let item = |c: CopyMessage| {
            Ok(CopyItem { digest: digest(&c.digest)?, size: c.size, object: Object::name(c.object.as_ref())? })
        };
        let copies = self.copies.into_iter().map(item).collect::<Decoded<_>>()?;
        Ok(Command::RecordCopies { region: parse("region", &self.region)?, store: store(&self.store)?, copies })
    }

    fn dropped(self) -> Decoded<Command> {
        at_most("copies", &self.copies, Command::ITEMS_MAX)?;
        let item =
            |c: CopyMessage| Ok(DropItem { digest: digest(&c.digest)?, object: Object::name(c.object.as_ref())? });
        let copies = self.copies.into_iter().map(item).collect::<Decoded<_>>()?;
        Ok(Command::DropCopies { region: parse("region", &self.region)?, copies })
    }
}

impl GarbageMessage {
    fn checked(self) -> Decoded<Command> {
        at_most("objects", &self.objects, Command::ITEMS_MAX)?;
        let item = |g: GarbageItemMessage| Ok((Revision(g.revision), Object::name(g.object.as_ref())?));
        let objects = self.objects.into_iter().map(item).collect::<Decoded<_>>()?;
        Ok(Command::ForgetGarbage { region: parse("region", &self.region)?, objects })
    }
}

impl LinksMessage {
    fn of(links: &[LinkItem]) -> Self {
        let item = |l: &LinkItem| LinkItemMessage {
            repository: l.repository.to_string(),
            digest: l.digest.to_bytes(),
            revision: l.revision.0,
        };
        Self { links: links.iter().map(item).collect() }
    }

    fn checked(self) -> Decoded<Vec<LinkItem>> {
        at_most("links", &self.links, Command::ITEMS_MAX)?;
        let item = |l: LinkItemMessage| {
            Ok(LinkItem {
                repository: parse("repository", &l.repository)?,
                digest: digest(&l.digest)?,
                revision: Revision(l.revision),
            })
        };
        self.links.into_iter().map(item).collect()
    }
}

impl NodeMessage {
    pub(crate) fn of(node: &RegisterNode) -> Self {
        Self {
            node: node.node.0,
            name: node.name.to_string(),
            region: node.region.to_string(),
            role: match node.role {
                NodeRole::Voter => 1,
                NodeRole::Learner => 2,
                NodeRole::Witness => 3,
            },
            grpc_address: node.grpc_address.clone(),
            http_address: node.http_address.clone(),
            admin_address: node.admin_address.clone(),
            store: node.store.map(|s| s.as_bytes().to_vec()).unwrap_or_default(),
            store_kind: node.store_kind.clone(),
            feature_level: node.feature_level,
        }
    }

    pub(crate) fn checked(self) -> Decoded<RegisterNode> {
        Ok(RegisterNode {
            node: NodeId(self.node),
            name: parse("node", &self.name)?,
            region: parse("region", &self.region)?,
            role: match self.role {
                1 => NodeRole::Voter,
                2 => NodeRole::Learner,
                3 => NodeRole::Witness,
                other => return Err(invalid("role", other)),
            },
            grpc_address: text("address", self.grpc_address, NAME_BYTES_MAX)?,
            http_address: text("address", self.http_address, NAME_BYTES_MAX)?,
            admin_address: text("address", self.admin_address, NAME_BYTES_MAX)?,
            store: store_opt(&self.store)?,
            store_kind: text("store kind", self.store_kind, NAME_BYTES_MAX)?,
            feature_level: self.feature_level,
        })
    }
}

//! Commands.

use atoll_types::{NodeId, Revision};
use prost::{Message, Oneof};

use super::manifest::PutManifestMessage;
use super::node::NodeMessage;
use super::{
    Decoded, InvalidEntry, NAME_BYTES_MAX, Object, at_most, cluster, digest, message, missing, parse, store, store_opt,
    text,
};
use crate::{BlobSource, Command, CopyItem, DropItem, LinkItem};

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

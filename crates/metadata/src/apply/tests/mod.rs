//! Tests of apply: a small world to run commands in, the invariants recomputed from scratch, and the rules one by one.

mod jobs;
mod random;
mod retries;
mod rules;

use atoll_types::{ClusterId, Digest, NodeId, ObjectName, RegionId, RepositoryName, RequestId, Revision, StoreId, Tag};
use bytes::Bytes;

use super::invariants;
use crate::{
    Applied, BlobSource, Command, Done, Entry, Envelope, Expected, ManifestBody, ManifestReference, MemoryKv, Outcome,
    Overlay, PutManifest, Rejection, TagUpdate, apply, read,
};
use crate::{Family, Kv};

pub(super) const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);

/// A state, and who sends commands to it.
pub(super) struct World {
    pub(super) kv: MemoryKv,
    pub(super) revision: u64,
    pub(super) time_ms: u64,
    requests: u128,
    objects: u128,
}

impl World {
    /// A cluster without regions.
    pub(super) fn new() -> Self {
        let mut world = Self { kv: MemoryKv::new(), revision: 0, time_ms: 1_000_000, requests: 0, objects: 0 };
        world.ok(Command::InitCluster { cluster: CLUSTER, epoch: 1 });
        world
    }

    /// A cluster with these regions, each with the store of [`store`] 0.
    pub(super) fn with_regions(names: &[&str]) -> Self {
        let mut world = Self::new();
        for name in names {
            world.ok(Command::RegisterRegion { region: region(name) });
            world.ok(Command::SetStore { region: region(name), store: store(name, 0), replaces: None });
        }
        world
    }

    pub(super) fn entry(&mut self, command: Command) -> Entry {
        self.requests += 1;
        let envelope = Envelope {
            request: RequestId::from_bytes(self.requests.to_be_bytes()),
            attempt: 0,
            seen: Revision(self.revision),
            actor: "someone".into(),
            client_address: String::new(),
            origin: NodeId(1),
            trace_parent: String::new(),
            cluster: CLUSTER,
            epoch: 1,
            feature_level: 0,
        };
        Entry { time_ms: self.time_ms, envelope, command }
    }

    /// Applies an entry at the next revision, through the wire and over an overlay as storage does, and directly; the
    /// two must agree, a refusal must write nothing but its outcome, and the invariants must hold.
    pub(super) fn apply(&mut self, entry: &Entry) -> Applied {
        self.revision += 1;
        self.time_ms += 10;
        let mut entry = entry.clone();
        entry.time_ms = self.time_ms;
        let entry = Entry::decode(&entry.encode()).unwrap();

        let mut overlay = Overlay::new(&self.kv);
        let applied = apply(&mut overlay, Revision(self.revision), &entry).unwrap();
        let changes = overlay.finish().unwrap();
        let mut direct = self.kv.clone();
        assert_eq!(apply(&mut direct, Revision(self.revision), &entry).unwrap(), applied);
        if matches!(applied.outcome, Outcome::Rejected(_)) {
            let keys =
                changes.puts.iter().map(|(f, key, _)| (f, key)).chain(changes.deletes.iter().map(|(f, k)| (f, k)));
            for (family, key) in keys {
                let of_requests = matches!(key[0], 0x02 | 0x15 | 0x30 | 0x31 | 0x33 | 0x34);
                assert!(*family == Family::State && of_requests, "a refusal wrote {key:x?}: {entry:?}");
            }
        }
        for (family, key, value) in changes.puts {
            self.kv.put(family, key, value);
        }
        for (family, key) in changes.deletes {
            self.kv.delete(family, key);
        }
        assert!(self.kv == direct, "over an overlay and directly");
        assert_eq!(Applied::decode(&applied.encode()).unwrap(), applied);
        applied
    }

    /// Sends a command and checks the invariants.
    pub(super) fn run(&mut self, command: Command) -> Outcome {
        let entry = self.entry(command);
        let outcome = self.apply(&entry).outcome;
        invariants::check(&self.kv);
        outcome
    }

    pub(super) fn ok(&mut self, command: Command) -> Done {
        match self.run(command) {
            Outcome::Done(done) => done,
            Outcome::Rejected(rejection) => panic!("refused: {rejection}"),
        }
    }

    pub(super) fn refused(&mut self, command: Command) -> Rejection {
        match self.run(command) {
            Outcome::Done(done) => panic!("not refused: {done:?}"),
            Outcome::Rejected(rejection) => rejection,
        }
    }

    /// An entry that was sent but not applied, sent again now.
    pub(super) fn retry(&mut self, entry: &Entry) -> Outcome {
        let mut entry = entry.clone();
        entry.envelope.attempt += 1;
        let outcome = self.apply(&entry).outcome;
        invariants::check(&self.kv);
        outcome
    }

    /// A fresh name in a region's present sweep epoch.
    pub(super) fn object(&mut self, of: &RegionId) -> ObjectName {
        let epoch = read::region(&self.kv, of).unwrap().map_or(1, |region| region.sweep_epoch);
        self.object_at(epoch)
    }

    pub(super) fn object_at(&mut self, epoch: u64) -> ObjectName {
        self.objects += 1;
        ObjectName::from_parts(epoch, self.objects.to_be_bytes())
    }

    pub(super) fn upload(&mut self, to: &str, content: &str, at: &str) -> Command {
        let of = region(at);
        let object = self.object(&of);
        let store = read::region(&self.kv, &of).unwrap().and_then(|r| r.store).unwrap_or(store(at, 9));
        let source = BlobSource::Uploaded { region: of, store, object };
        Command::LinkBlob { repository: repository(to), digest: digest(content), size: content.len() as u64, source }
    }

    pub(super) fn wanted(&self, of: &str) -> Vec<Digest> {
        let page = read::wanted(&self.kv, &region(of), None, 1_000).unwrap();
        page.into_iter().map(|wanted| wanted.digest).collect()
    }

    pub(super) fn tag(&self, of: &str, name: &str) -> Option<Digest> {
        read::tag(&self.kv, &repository(of), &tag(name)).unwrap().map(|(digest, _)| digest)
    }
}

pub(super) fn region(name: &str) -> RegionId {
    name.parse().unwrap()
}

pub(super) fn store(region: &str, number: u8) -> StoreId {
    let mut bytes = [number; 16];
    bytes[..region.len().min(12)].copy_from_slice(&region.as_bytes()[..region.len().min(12)]);
    StoreId::from_bytes(bytes)
}

pub(super) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(super) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(super) fn digest(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

pub(super) fn blob(content: &str) -> ManifestReference {
    ManifestReference::Blob(digest(content), content.len() as u64)
}

/// A put of a manifest whose body is its name.
pub(super) fn put(to: &str, name: &str, references: Vec<ManifestReference>, tags: &[&str]) -> PutManifest {
    PutManifest {
        repository: repository(to),
        digest: digest(name),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        body: ManifestBody::Inline(Bytes::copy_from_slice(name.as_bytes())),
        references,
        subject: None,
        artifact_type: String::new(),
        annotations: None,
        tags: tags.iter().map(|name| TagUpdate { tag: tag(name), expected: Expected::Any }).collect(),
    }
}

pub(super) fn command(put: PutManifest) -> Command {
    Command::PutManifest(Box::new(put))
}

pub(super) fn delete_manifest(of: &str, name: &str) -> Command {
    Command::DeleteManifest { repository: repository(of), digest: digest(name) }
}

pub(super) fn delete_tag(of: &str, name: &str) -> Command {
    Command::DeleteTag { repository: repository(of), tag: tag(name) }
}

pub(super) fn delete_blob(of: &str, content: &str) -> Command {
    Command::DeleteBlob { repository: repository(of), digest: digest(content) }
}

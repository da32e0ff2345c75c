//! Uploads in several requests: offsets only grow, a session belongs to its repository, and its end can be repeated.

use std::io;

use atoll_auth::{Access, Push};
use atoll_registry::{Linked, Registry, RegistryError, SessionId, WriteOptions};
use atoll_types::Digest;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::{Duration, Instant, sleep};

use super::push::pieces;
use super::{Client, is_certain, told};
use crate::history::{Deed, Register};
use crate::judge::Stopwatch;
use crate::node::Node;

/// Most requests of one session.
const REQUESTS_MAX: usize = 8;

impl Client {
    pub(super) async fn upload_in_parts(&mut self) {
        let (Some(node), repository) = (self.some_node(), self.repository()) else { return };
        let digests: Vec<Digest> = self.world.content.blobs.keys().copied().collect();
        let (Some(access), Some(digest)) = (self.access::<Push>(&repository), self.dice.pick(&digests).copied()) else {
            return;
        };
        let Some(content) = self.world.content.bytes(&digest).cloned() else { return };
        let start_ms = self.now_ms();
        let done = node.life.run_until_cancelled(self.session(&node, &access, &digest, &content)).await;
        self.say(&format!("session of {digest} at {}: {}", node.index, told(&done)));
        let (outcome, certain) = match &done {
            Some(Ok(Some(_))) => (0, Some(true)),
            Some(Ok(None)) => (1, None),
            Some(Err(error)) if is_certain(error) => (1, None),
            Some(Err(_)) | None => (2, Some(false)),
        };
        self.world.judge.operation("upload session", outcome);
        if let Some(certain) = certain {
            self.note(&Register::Link(repository, digest), Deed::Put(digest), start_ms, certain);
        }
        if outcome == 2 {
            self.world.places[node.index].disk.excuse(1);
        }
    }

    /// A session from its beginning to its end; `None` when it was given up.
    async fn session(
        &mut self,
        node: &Node,
        access: &Access<Push>,
        digest: &Digest,
        content: &Bytes,
    ) -> Result<Option<Linked>, RegistryError> {
        let registry = &node.registry;
        let id = registry.start_upload(access, None).await?.id;
        let mut offset = 0;
        for _ in 0..REQUESTS_MAX {
            if offset == content.len() as u64 {
                break;
            }
            offset = self.append(registry, access, &id, offset, content).await?;
            self.check_holder(registry, access, &id).await;
            let pause = self.dice.millis(1, 200);
            sleep(pause).await;
        }
        if self.dice.chance(0.1) {
            registry.cancel_upload(access, &id).await?;
            self.world.judge.fired("session cancelled");
            return Ok(None);
        }
        let rest = content.slice(offset as usize..);
        self.finish(registry, access, &id, digest, rest).await.map(Some)
    }

    /// One chunk, whole or torn, or one that begins at a wrong offset. The true offset afterwards.
    async fn append(
        &mut self,
        registry: &Registry,
        access: &Access<Push>,
        id: &SessionId,
        offset: u64,
        content: &Bytes,
    ) -> Result<u64, RegistryError> {
        let watch = Stopwatch::start();
        let length = self.dice.between(1, content.len() as u64 - offset);
        let chunk = content.slice(offset as usize..(offset + length) as usize);
        let fault = self.dice.below(8);
        let (start, torn) = (if fault == 0 { offset + 1 } else { offset }, fault == 1);
        let mut body: Vec<io::Result<Bytes>> = pieces(chunk).map(Ok).collect();
        if torn {
            body.pop();
            body.push(Err(io::ErrorKind::ConnectionReset.into()));
            self.world.judge.fired("upload torn");
        }
        let appended = registry.append(access, id, Some(start), None, stream::iter(body)).await;
        let status = registry.upload_status(access, id).await.map(|status| status.offset);
        match (&appended, &status) {
            (Err(RegistryError::UploadRange { offset: told, .. }), Ok(now)) => {
                self.expect(
                    start != offset && *told == offset && *now == offset,
                    "a wrong offset was not refused as such",
                );
                self.world.judge.fired("chunk at a wrong offset");
            }
            (Ok(status), Ok(now)) => {
                self.expect(start == offset && !torn, "a chunk that is not right was taken");
                self.expect(status.offset == *now && *now == offset + length, "a chunk was not taken whole");
            }
            (Err(RegistryError::BodyTorn(_)), Ok(now)) => {
                self.expect(torn && (offset..offset + length).contains(now), "a torn chunk left a wrong offset");
            }
            _ => {}
        }
        self.world.judge.looked("I10", watch);
        match appended {
            Ok(_) | Err(RegistryError::UploadRange { .. } | RegistryError::BodyTorn(_)) => status,
            Err(error) => Err(error),
        }
    }

    fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.world.judge.violated("I10", what);
        }
    }

    /// Through another repository the session is unknown.
    async fn check_holder(&mut self, registry: &Registry, access: &Access<Push>, id: &SessionId) {
        let other = self.repository();
        if other == *access.repository() {
            return;
        }
        let Some(other) = self.access::<Push>(&other) else { return };
        let seen = registry.upload_status(&other, id).await;
        self.expect(matches!(seen, Err(RegistryError::UploadUnknown(_))), "a session answers another repository");
    }

    /// The last request, and sometimes once more after it was answered: the answer must be the same.
    async fn finish(
        &mut self,
        registry: &Registry,
        access: &Access<Push>,
        id: &SessionId,
        digest: &Digest,
        rest: Bytes,
    ) -> Result<Linked, RegistryError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let options = WriteOptions { request: None, client_address: String::new(), deadline };
        let body = stream::iter(pieces(rest).map(Ok)).boxed();
        let linked = registry.finish_upload(access, id, digest, None, None, body, || options.clone()).await?;
        if self.dice.chance(0.4) {
            let nothing = stream::empty().boxed();
            let again = registry.finish_upload(access, id, digest, None, None, nothing, || options.clone()).await;
            match again {
                Ok(again) => self.expect(again == linked, "the end of a session was answered differently"),
                Err(RegistryError::ReadOnly { .. }) => {}
                Err(error) => self.expect(false, &format!("the end of a session cannot be repeated: {error}")),
            }
            self.world.judge.fired("end of a session repeated");
        }
        Ok(linked)
    }
}

//! Pushing: blobs in one request, mounts, manifests, tags.

use atoll_auth::{Pull, Push};
use atoll_metadata::{Expected, Rejection};
use atoll_registry::{PutTarget, RegistryError};
use atoll_types::{Digest, Reference, RepositoryName, Tag};
use bytes::Bytes;
use futures::stream;

use super::{Client, Written};
use crate::content::Image;
use crate::history::{Deed, Register};

impl Client {
    /// An image as clients push it: what is missing of its blobs, then its manifest, under a tag. The images of an index
    /// come before it, by digest.
    pub(super) async fn push_image(&mut self) {
        let (repository, image) = (self.repository(), self.manifest());
        for child in &image.children {
            let Some(child) = self.world.content.image(child).cloned() else { return };
            let pushed = self.push_blobs(&repository, &child).await
                && self.put_at(&repository, &child, None, Expected::Any).await;
            if !pushed {
                return;
            }
        }
        if self.push_blobs(&repository, &image).await {
            self.put(&repository, &image).await;
        }
    }

    async fn push_blobs(&mut self, repository: &RepositoryName, image: &Image) -> bool {
        for digest in &image.blobs {
            let pushed = if self.dice.chance(0.25) {
                self.mount_blob(repository, digest).await || self.upload(repository, digest).await
            } else {
                self.upload(repository, digest).await
            };
            if !pushed {
                return false;
            }
        }
        true
    }

    /// An image, and one time in ten an index.
    pub(super) fn manifest(&mut self) -> Image {
        let content = &self.world.content;
        let of = if self.dice.chance(0.1) { &content.indexes } else { &content.images };
        of[self.dice.below(of.len())].clone()
    }

    fn blob(&mut self) -> Digest {
        let digests: Vec<Digest> = self.world.content.blobs.keys().copied().collect();
        digests[self.dice.below(digests.len())]
    }

    pub(super) async fn push_blob(&mut self) {
        let (repository, digest) = (self.repository(), self.blob());
        self.upload(&repository, &digest).await;
    }

    pub(super) async fn mount(&mut self) {
        let (repository, digest) = (self.repository(), self.blob());
        self.mount_blob(&repository, &digest).await;
    }

    /// Puts a manifest whose blobs and children are probably there.
    pub(super) async fn move_tag(&mut self) {
        let (repository, image) = (self.repository(), self.manifest());
        self.put(&repository, &image).await;
    }

    /// One request, now and then of bytes that are not those of the digest.
    async fn upload(&mut self, repository: &RepositoryName, digest: &Digest) -> bool {
        let Some(access) = self.access::<Push>(repository) else { return false };
        let Some(bytes) = self.world.content.bytes(digest).cloned() else { return false };
        let (wrong, start_ms) = (self.dice.chance(0.03), self.now_ms());
        let bytes = if wrong { Bytes::from_static(b"something else") } else { bytes };
        let what = if wrong { "push of wrong bytes" } else { "push blob" };
        let digest = *digest;
        let written = self
            .write(what, move |registry, options| {
                let (access, bytes) = (access.clone(), bytes.clone());
                Box::pin(async move {
                    let length = Some(bytes.len() as u64);
                    let body = stream::iter(pieces(bytes).map(Ok));
                    registry.upload_whole(&access, &digest, length, body, &options).await
                })
            })
            .await;
        let register = Register::Link(repository.clone(), digest);
        match written {
            Written::Done(_) if wrong => {
                self.world.judge.violated("I3", format!("bytes that are not those of {digest} were taken"));
                false
            }
            Written::Done(_) => {
                self.note(&register, Deed::Put(digest), start_ms, true);
                true
            }
            Written::Unknown if !wrong => {
                self.note(&register, Deed::Put(digest), start_ms, false);
                false
            }
            Written::Unknown | Written::Failed(_) => false,
        }
    }

    async fn mount_blob(&mut self, repository: &RepositoryName, digest: &Digest) -> bool {
        let from = self.repository();
        let (Some(access), Some(source)) = (self.access::<Push>(repository), self.access::<Pull>(&from)) else {
            return false;
        };
        let (digest, start_ms) = (*digest, self.now_ms());
        let written = self
            .write("mount", move |registry, options| {
                let (access, source) = (access.clone(), source.clone());
                Box::pin(async move { registry.mount(&access, &digest, Some(&source), &options).await })
            })
            .await;
        let register = Register::Link(repository.clone(), digest);
        match written {
            Written::Done(Some(_)) => self.note(&register, Deed::Put(digest), start_ms, true),
            Written::Unknown => self.note(&register, Deed::Put(digest), start_ms, false),
            Written::Done(None) | Written::Failed(_) => return false,
        }
        true
    }

    /// A manifest under a tag, with or without a precondition, or by its digest alone.
    async fn put(&mut self, repository: &RepositoryName, image: &Image) {
        let tag = self.tag();
        let (tag, expected) = match self.dice.below(10) {
            0 => (None, Expected::Any),
            1 | 2 => (Some(tag), Expected::Absent),
            3..6 => (Some(tag), Expected::Digest(self.manifest().digest)),
            _ => (Some(tag), Expected::Any),
        };
        self.put_at(repository, image, tag, expected).await;
    }

    /// The same, at this tag; whether it was put.
    async fn put_at(
        &mut self,
        repository: &RepositoryName,
        image: &Image,
        tag: Option<Tag>,
        expected: Expected,
    ) -> bool {
        let Some(access) = self.access::<Push>(repository) else { return false };
        let reference = tag.clone().map_or(Reference::Digest(image.digest), Reference::Tag);
        let (start_ms, body, media_type) = (self.now_ms(), image.body.clone(), image.media_type);
        let what = match (&tag, expected) {
            (None, _) => "put manifest",
            (Some(_), Expected::Any) => "put tag",
            (Some(_), _) => "put tag if it matches",
        };
        let written = self
            .write(what, move |registry, options| {
                let target = PutTarget { reference: reference.clone(), extra_tags: Vec::new(), expected };
                let (access, body) = (access.clone(), body.clone());
                Box::pin(async move { registry.put_manifest(&access, target, Some(media_type), body, &options).await })
            })
            .await;
        let manifest = Register::Manifest(repository.clone(), image.digest);
        let register = tag.map(|tag| Register::Tag(repository.clone(), tag));
        let deed = match expected {
            Expected::Any => Deed::Put(image.digest),
            Expected::Absent => Deed::Swap(None, image.digest),
            Expected::Digest(before) => Deed::Swap(Some(before), image.digest),
        };
        let certain = matches!(written, Written::Done(_));
        if certain && !image.children.is_empty() {
            self.world.judge.fired("index put");
        }
        match written {
            Written::Done(_) | Written::Unknown => {
                self.note(&manifest, Deed::Put(image.digest), start_ms, certain);
                if let Some(register) = register {
                    self.note(&register, deed, start_ms, certain);
                }
            }
            Written::Failed(error) => {
                if let (RegistryError::Rejected(Rejection::TagConflict { found, .. }), Some(register)) =
                    (*error, register)
                {
                    self.note(&register, Deed::See(found), start_ms, true);
                }
            }
        }
        certain
    }

    pub(super) fn tag(&mut self) -> Tag {
        let tags = &self.world.content.tags;
        tags[self.dice.below(tags.len())].clone()
    }
}

/// Bytes as a body brings them.
pub(super) fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    const PIECE: usize = 48 << 10;
    (0..bytes.len()).step_by(PIECE).map(move |start| bytes.slice(start..bytes.len().min(start + PIECE)))
}

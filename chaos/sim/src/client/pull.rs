//! Pulling: manifests by tag and by digest, blobs whole and in ranges.

use std::ops::Range;

use atoll_auth::{Access, Pull};
use atoll_blobstore::ByteStream;
use atoll_metadata::Rejection;
use atoll_registry::{Consistency, ManifestBytes, ReadOptions, RegistryConfig, RegistryError};
use atoll_types::{Digest, Reference, RepositoryName};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use super::{Client, told};
use crate::content::Image;
use crate::history::{Deed, Register};
use crate::judge::Stopwatch;
use crate::node::Node;
use crate::weather::Calm;

impl Client {
    /// A manifest by tag, or by digest, and then its blobs, as clients pull an image.
    pub(super) async fn pull_image(&mut self) {
        let (Some(node), repository) = (self.some_node(), self.repository()) else { return };
        let (tag, image) = (self.tag(), self.manifest());
        let by_tag = self.dice.chance(0.8);
        let (reference, register) = match by_tag {
            true => (Reference::Tag(tag.clone()), Register::Tag(repository.clone(), tag)),
            false => (Reference::Digest(image.digest), Register::Manifest(repository.clone(), image.digest)),
        };
        let consistency = if self.dice.chance(0.5) { Consistency::Linearizable } else { Consistency::Default };
        let found = self.get_manifest(&node, &repository, &reference, &register, consistency, None).await;
        let Some(found) = found.and_then(|found| self.world.content.image(&found).cloned()) else { return };
        self.pull_blobs(&node, &repository, &found).await;
        for child in &found.children {
            self.pull_child(&node, &repository, child, &found.digest).await;
        }
    }

    async fn pull_blobs(&mut self, node: &Node, repository: &RepositoryName, image: &Image) {
        for digest in &image.blobs {
            self.get_blob(node, repository, digest, Some(&image.digest)).await;
        }
    }

    /// An image of an index, by its digest.
    async fn pull_child(&mut self, node: &Node, repository: &RepositoryName, child: &Digest, index: &Digest) {
        let (reference, register) = (Reference::Digest(*child), Register::Manifest(repository.clone(), *child));
        let consistency = Consistency::Default;
        let found = self.get_manifest(node, repository, &reference, &register, consistency, Some(index)).await;
        if let Some(image) = found.and_then(|found| self.world.content.image(&found).cloned()) {
            self.world.judge.fired("child of an index pulled");
            self.pull_blobs(node, repository, &image).await;
        }
    }

    pub(super) async fn pull_blob(&mut self) {
        let digests: Vec<Digest> = self.world.content.blobs.keys().copied().collect();
        let (Some(node), repository) = (self.some_node(), self.repository()) else { return };
        let Some(digest) = self.dice.pick(&digests).copied() else { return };
        self.get_blob(&node, &repository, &digest, None).await;
    }

    /// A manifest; `of` is an index that the node has shown, and that refers to it.
    async fn get_manifest(
        &mut self,
        node: &Node,
        repository: &RepositoryName,
        reference: &Reference,
        register: &Register,
        consistency: Consistency,
        of: Option<&Digest>,
    ) -> Option<Digest> {
        let (access, options) = (self.access::<Pull>(repository)?, self.reading(consistency));
        let calm = self.world.weather.calm();
        let (start_ms, read_only) = (self.now_ms(), self.world.log.told_read_only(node.index));
        let got = read_manifest(node, &access, reference, &options);
        let got = node.life.run_until_cancelled(got).await;
        self.say(&format!("get {repository} {reference} at {}: {}", node.index, told(&got)));
        let got = got?;
        self.world.judge.operation("get manifest", usize::from(got.is_err()));
        let current = self.world.log.told_read_only(node.index) == read_only;
        let seen = match &got {
            Ok((digest, bytes)) => {
                self.check_body(digest, bytes);
                Some(Some(*digest))
            }
            Err(RegistryError::Rejected(
                Rejection::TagUnknown(_) | Rejection::ManifestUnknown(_) | Rejection::RepositoryUnknown(_),
            )) => {
                self.check_visible(node, register, of);
                Some(None)
            }
            Err(error) => {
                self.check_served(calm, node, register, of, error);
                None
            }
        };
        if let Some(seen) = seen.filter(|_| current) {
            // A read that asks for nothing may be as old as the bound of staleness; what is absent was looked for twice.
            let by_digest = matches!(register, Register::Manifest(..));
            let old = consistency == Consistency::Default && seen.is_some();
            let bound = u64::try_from(RegistryConfig::MAX_STALENESS.as_millis()).unwrap_or(0);
            // By digest nothing is promised of how old a manifest that is there may be.
            if !(old && by_digest) {
                let start_ms = if old { start_ms.saturating_sub(bound) } else { start_ms };
                self.note(register, Deed::See(seen), start_ms, true);
            }
        }
        got.ok().map(|(digest, _)| digest)
    }

    fn check_body(&self, digest: &Digest, bytes: &Bytes) {
        let watch = Stopwatch::start();
        if self.world.content.image(digest).is_none_or(|image| image.body != *bytes) {
            self.world.judge.violated("I3", format!("manifest {digest} was answered with other bytes"));
        }
        self.world.judge.looked("I3", watch);
    }

    /// A blob, or a range of it. What is answered must be right, and a blob of a manifest that is visible must be there.
    async fn get_blob(&mut self, node: &Node, repository: &RepositoryName, digest: &Digest, of: Option<&Digest>) {
        let (Some(access), options) = (self.access::<Pull>(repository), self.reading(Consistency::Default)) else {
            return;
        };
        let Some(content) = self.world.content.bytes(digest).cloned() else { return };
        let (start_ms, read_only) = (self.now_ms(), self.world.log.told_read_only(node.index));
        let (calm, register) = (self.world.weather.calm(), Register::Link(repository.clone(), *digest));
        let range = self.range(content.len() as u64);
        let got = async {
            let blob = node.registry.open_blob(&access, digest, &options).await?;
            read(node, &blob, range.clone()).await
        };
        let got = node.life.run_until_cancelled(got).await;
        self.say(&format!("get {digest} {range:?} at {}: {}", node.index, told(&got)));
        let Some(got) = got else { return };
        self.world.judge.operation(
            if range == (0..content.len() as u64) { "get blob" } else { "get range" },
            usize::from(got.is_err()),
        );
        let watch = Stopwatch::start();
        match got {
            Ok(bytes) => {
                if bytes != content.slice(range.start as usize..range.end as usize) {
                    let what = format!("{range:?} of {digest} at node {} was completed with other bytes", node.index);
                    self.world.judge.violated("I3", what);
                }
                self.world.judge.looked("I3", watch);
                if calm.is_some() && of.is_some() {
                    self.world.judge.fired("blob of a manifest pulled in a calm");
                }
            }
            Err(RegistryError::Rejected(Rejection::BlobUnknown(_) | Rejection::RepositoryUnknown(_))) => {
                self.check_visible(node, &register, of);
                if self.world.log.told_read_only(node.index) == read_only {
                    self.note(&register, Deed::See(None), start_ms, true);
                }
            }
            // A blob that nobody refers to is owed to nobody.
            Err(error) if of.is_some() => self.check_served(calm, node, &register, of, &error),
            Err(_) => {}
        }
    }

    fn range(&mut self, size: u64) -> Range<u64> {
        if self.dice.chance(0.6) {
            return 0..size;
        }
        let start = self.dice.between(0, size - 1);
        start..self.dice.between(start + 1, size)
    }

    /// A blob or a child is unknown at a node that has just shown a manifest that refers to it.
    fn check_visible(&self, node: &Node, what: &Register, of: Option<&Digest>) {
        let Some(manifest) = of else { return };
        let watch = Stopwatch::start();
        if !self.may_be_gone(what, of) {
            let what = format!("node {} shows {manifest} and does not know {what:?}", node.index);
            self.world.judge.violated("I4", what);
        }
        self.world.judge.looked("I4", watch);
    }

    /// What a node knows could not be read. While nothing goes wrong it is served from wherever it is, although not all
    /// of it may be replicated yet, or may be while that is paused.
    fn check_served(
        &self,
        calm: Option<Calm>,
        node: &Node,
        what: &Register,
        of: Option<&Digest>,
        error: &RegistryError,
    ) {
        let watch = Stopwatch::start();
        if calm.is_none() || calm != self.world.weather.calm() {
            return;
        }
        if !self.may_be_gone(what, of) {
            let what = format!("in a calm node {} does not serve {what:?}, of {of:?}: {error}", node.index);
            self.world.judge.violated("I4", what);
        }
        self.world.judge.looked("I4", watch);
    }

    /// Whether somebody has begun to remove it, or what refers to it.
    fn may_be_gone(&self, what: &Register, of: Option<&Digest>) -> bool {
        let (Register::Tag(repository, _) | Register::Manifest(repository, _) | Register::Link(repository, _)) = what;
        let manifest = of.map(|of| Register::Manifest(repository.clone(), *of));
        self.world.history(|h| h.may_be_removed(what) || manifest.is_some_and(|manifest| h.may_be_removed(&manifest)))
    }
}

/// All bytes of a range, if it ends well.
pub(crate) async fn read(
    node: &Node,
    blob: &atoll_registry::BlobHandle,
    range: Range<u64>,
) -> Result<Bytes, RegistryError> {
    collect(node.registry.read_blob(blob, range).await?).await
}

/// A manifest's digest and its body, to its end.
pub(crate) async fn read_manifest(
    node: &Node,
    access: &Access<Pull>,
    reference: &Reference,
    options: &ReadOptions,
) -> Result<(Digest, Bytes), RegistryError> {
    let answer = node.registry.get_manifest(access, reference, options).await?;
    let bytes = match answer.body {
        ManifestBytes::Whole(bytes) => bytes,
        ManifestBytes::Stream(stream) => collect(stream).await?,
    };
    Ok((answer.digest, bytes))
}

async fn collect(mut stream: ByteStream) -> Result<Bytes, RegistryError> {
    let mut all = BytesMut::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all.freeze())
}

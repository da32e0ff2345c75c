//! Pushes of whole images, and mounts.

use rand::RngExt as _;

use super::Worker;
use super::world::{BlobRead, Put, World};
use crate::content::{Blob, Image, MANIFEST};
use crate::history::Outcome;

/// Up to here a blob has no block checksums.
const SMALL_BYTES: usize = 64 << 10;
const LARGE_BYTES: usize = 1_500_000;

impl Worker {
    /// An image, blob by blob, then its manifest, all at one node; now and then what has to be refused.
    pub(super) fn push(&mut self, node: usize) -> Outcome {
        match self.random.random_range(0..100) {
            0..4 => return self.push_under_a_wrong_digest(node),
            4..8 => return self.push_without_a_layer(node),
            8..14 => self.push_and_leave(node),
            14..24 => {
                if let Some(outcome) = self.push_index(node) {
                    return outcome;
                }
            }
            _ => {}
        }
        let layers = self.random.random_range(1..=2);
        let layers: Vec<Blob> = (0..layers).map(|_| self.fresh_blob()).collect();
        let image = Image::new(self.world.seed(), layers, None);
        let repository = self.world.repository(&mut self.random);
        let tag = self.tag_for(&image);
        self.push_image(node, &repository, &tag, &image)
    }

    /// One that others write, too, or its own.
    pub(super) fn tag_for(&mut self, image: &Image) -> String {
        if self.chance(40) { World::fought_for(&mut self.random) } else { own_tag(image) }
    }

    /// Bytes under the digest of others: were they taken, they would be read as wrong. They are too many to be checked by
    /// their digest when they are read.
    fn push_under_a_wrong_digest(&mut self, node: usize) -> Outcome {
        let (right, wrong) = (self.fresh_blob(), Blob::new(self.world.seed(), 2 * SMALL_BYTES));
        let repository = self.world.repository(&mut self.random);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", right.digest);
        let reply = self.world.clients[node].call("POST", &path, &[], &wrong.content());
        if reply.outcome_of_write() == Outcome::Ok {
            self.world.read_blob(node, &BlobRead::whole(&repository, &right));
        }
        Outcome::Failed
    }

    /// A manifest whose layer nobody has: were it taken, it would not be complete.
    fn push_without_a_layer(&mut self, node: usize) -> Outcome {
        let missing = Blob::new(self.world.seed(), 3_000);
        let image = Image::new(self.world.seed(), vec![missing], None);
        let repository = self.world.repository(&mut self.random);
        for config in &image.blobs[1..] {
            self.world.push_blob(node, &repository, config);
        }
        let path = format!("/v2/{repository}/manifests/{}", image.digest);
        let reply = self.world.clients[node].call("PUT", &path, &[("content-type", MANIFEST)], &image.manifest);
        if reply.outcome_of_write() == Outcome::Ok {
            let digest = image.digest.to_string();
            self.world
                .read_blob(node, &BlobRead { of_manifest: Some(&digest), ..BlobRead::whole(&repository, &missing) });
        }
        Outcome::Failed
    }

    /// A client that goes in the midst of a body.
    fn push_and_leave(&mut self, node: usize) {
        let blob = Blob::new(self.world.seed(), 700_000);
        let repository = self.world.repository(&mut self.random);
        self.world.clients[node].push_and_leave(&repository, &blob.digest, &blob.content());
    }

    /// All of an image under a tag.
    pub(super) fn push_image(&self, node: usize, repository: &str, tag: &str, image: &Image) -> Outcome {
        for blob in &image.blobs {
            let outcome = self.world.push_blob(node, repository, blob);
            if outcome != Outcome::Ok {
                return outcome;
            }
        }
        self.world.put(node, &Put::new(repository, tag, image))
    }

    /// A blob that was never pushed: most are small, some have several blocks.
    pub(super) fn fresh_blob(&mut self) -> Blob {
        let bytes = match self.random.random_range(0..100) {
            0..60 => self.random.random_range(1..20_000),
            60..85 => self.random.random_range(20_000..SMALL_BYTES + 40_000),
            _ => self.random.random_range(SMALL_BYTES..LARGE_BYTES),
        };
        Blob::new(self.world.seed(), bytes)
    }

    /// An image of nothing but its config, for what is about tags.
    pub(super) fn small_image(&self) -> Image {
        Image::new(self.world.seed(), Vec::new(), None)
    }

    /// A layer of another repository is mounted and put to use at once.
    pub(super) fn mount(&mut self, node: usize) -> Option<Outcome> {
        let source = self.world.pick(&mut self.random)?;
        let target = self.world.repository(&mut self.random);
        let layer = *source.image.blobs.first()?;
        if target == source.repository {
            return None;
        }
        let start = self.world.recorder.now();
        let path = format!("/v2/{target}/blobs/uploads/?mount={}&from={}", layer.digest, source.repository);
        let reply = self.world.clients[node].call("POST", &path, &[], b"");
        if reply.status() == 202 {
            // The source was deleted meanwhile: a session is opened instead, which is none of ours.
            return Some(Outcome::Failed);
        }
        let outcome = self.world.blob_pushed(node, &target, &layer, start, &reply);
        if outcome != Outcome::Ok {
            return Some(outcome);
        }
        let image = Image::new(self.world.seed(), vec![layer], None);
        let config = image.blobs.last()?;
        let outcome = self.world.push_blob(node, &target, config);
        if outcome != Outcome::Ok {
            return Some(outcome);
        }
        Some(self.world.put(node, &Put::new(&target, &own_tag(&image), &image)))
    }
}

/// A tag that nobody else writes.
pub(super) fn own_tag(image: &Image) -> String {
    format!("own-{}", &image.digest.hex()[..16])
}

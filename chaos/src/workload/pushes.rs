//! Pushes of whole images, and mounts.

use rand::RngExt as _;

use super::Worker;
use super::world::{Put, World};
use crate::content::{Blob, Image};
use crate::history::Outcome;

/// Up to here a blob has no block checksums.
const SMALL_BYTES: usize = 64 << 10;
const LARGE_BYTES: usize = 1_500_000;

impl Worker {
    /// An image, blob by blob, then its manifest, all at one node.
    pub(super) fn push(&mut self, node: usize) -> Outcome {
        let layers = self.random.random_range(1..=2);
        let layers: Vec<Blob> = (0..layers).map(|_| self.fresh_blob()).collect();
        let image = Image::new(self.world.seed(), layers, None);
        let repository = self.world.repository(&mut self.random);
        let tag = if self.chance(40) { World::fought_for(&mut self.random) } else { own_tag(&image) };
        self.push_image(node, &repository, &tag, &image)
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

//! What clients push: a small world of blobs and images, so that they meet each other's.

use std::collections::BTreeMap;

use atoll_types::{Digest, RepositoryName, Tag};
use bytes::Bytes;
use serde_json::json;

use crate::dice::Dice;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image, or an index of images.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
    pub(crate) body: Bytes,
    /// Its config and layers.
    pub(crate) blobs: Vec<Digest>,
    /// The images of an index.
    pub(crate) children: Vec<Digest>,
}

/// Everything that can be pushed, and where to.
pub(crate) struct Content {
    pub(crate) repositories: Vec<RepositoryName>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    pub(crate) images: Vec<Image>,
    /// Of two of the images each.
    pub(crate) indexes: Vec<Image>,
}

const BLOBS: usize = 8;
const IMAGES: usize = 6;
const INDEXES: usize = 3;

impl Content {
    pub(crate) fn new(dice: &mut Dice) -> anyhow::Result<Self> {
        let mut blobs = BTreeMap::new();
        let digests: Vec<Digest> = (0..BLOBS).map(|nth| blob(dice, nth, &mut blobs)).collect();
        let images: Vec<Image> = (0..IMAGES).map(|nth| image(dice, nth, &digests, &blobs)).collect();
        let indexes = (0..INDEXES).map(|nth| index(dice, nth, &images)).collect();
        let repositories = ["team/app", "team/base", "other"].iter().map(|name| name.parse());
        let tags = ["latest", "v1", "v2", "v3"].iter().map(|name| name.parse());
        Ok(Self {
            repositories: repositories.collect::<Result<_, _>>()?,
            tags: tags.collect::<Result<_, _>>()?,
            blobs,
            images,
            indexes,
        })
    }

    /// Images and indexes.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Image> {
        self.images.iter().chain(&self.indexes)
    }

    /// An image or an index.
    pub(crate) fn image(&self, digest: &Digest) -> Option<&Image> {
        self.manifests().find(|image| image.digest == *digest)
    }

    /// The bytes of a blob, or of a manifest's body.
    pub(crate) fn bytes(&self, digest: &Digest) -> Option<&Bytes> {
        self.blobs.get(digest).or_else(|| self.image(digest).map(|image| &image.body))
    }

    /// Every digest there is.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.keys().chain(self.manifests().map(|image| &image.digest))
    }
}

/// Most are small; some have block checksums, and few several blocks.
fn blob(dice: &mut Dice, nth: usize, blobs: &mut BTreeMap<Digest, Bytes>) -> Digest {
    let size = match nth {
        0 => dice.between(260 << 10, 600 << 10),
        1 | 2 => dice.between(65 << 10, 120 << 10),
        _ => dice.between(1, 3_000),
    };
    let mut bytes = vec![0; size as usize];
    dice.fill(&mut bytes);
    let digest = Digest::sha256(&bytes);
    blobs.insert(digest, bytes.into());
    digest
}

fn image(dice: &mut Dice, nth: usize, digests: &[Digest], blobs: &BTreeMap<Digest, Bytes>) -> Image {
    let count = 1 + dice.below(3);
    let mut chosen: Vec<Digest> = (0..=count).filter_map(|_| dice.pick(digests).copied()).collect();
    chosen.dedup();
    let descriptor = |digest: &Digest, kind: &str| {
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest.to_string(),
               "size": blobs.get(digest).map_or(0, Bytes::len)})
    };
    let layers: Vec<_> = chosen.iter().skip(1).map(|digest| descriptor(digest, "layer.v1.tar")).collect();
    // One is so large that its body is stored like a blob.
    let padding = if nth == 0 { "x".repeat(33 << 10) } else { nth.to_string() };
    let body = json!({"schemaVersion": 2, "mediaType": IMAGE, "layers": layers,
                      "config": descriptor(&chosen[0], "config.v1+json"), "annotations": {"nth": padding}});
    let body = Bytes::from(body.to_string());
    Image { digest: Digest::sha256(&body), media_type: IMAGE, body, blobs: chosen, children: Vec::new() }
}

/// An index of two images that differ.
fn index(dice: &mut Dice, nth: usize, images: &[Image]) -> Image {
    let first = dice.below(images.len());
    let second = (first + 1 + dice.below(images.len() - 1)) % images.len();
    let children = [&images[first], &images[second]];
    let descriptors = children.map(
        |child| json!({"mediaType": child.media_type, "digest": child.digest.to_string(), "size": child.body.len()}),
    );
    let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors,
                      "annotations": {"nth": nth.to_string()}});
    let body = Bytes::from(body.to_string());
    let children = children.map(|child| child.digest).to_vec();
    Image { digest: Digest::sha256(&body), media_type: INDEX, body, blobs: Vec::new(), children }
}

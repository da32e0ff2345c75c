//! What clients push: a small world of blobs and images, so that they meet each other's.

use std::collections::BTreeMap;

use atoll_types::{Digest, RepositoryName, Tag};
use bytes::Bytes;
use serde_json::json;

use crate::dice::Dice;

pub(crate) const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) body: Bytes,
    /// Its config and layers.
    pub(crate) blobs: Vec<Digest>,
}

/// Everything that can be pushed, and where to.
pub(crate) struct Content {
    pub(crate) repositories: Vec<RepositoryName>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    pub(crate) images: Vec<Image>,
}

const BLOBS: usize = 8;
const IMAGES: usize = 6;

impl Content {
    pub(crate) fn new(dice: &mut Dice) -> anyhow::Result<Self> {
        let mut blobs = BTreeMap::new();
        let digests: Vec<Digest> = (0..BLOBS).map(|nth| blob(dice, nth, &mut blobs)).collect();
        let images = (0..IMAGES).map(|nth| image(dice, nth, &digests, &blobs)).collect();
        let repositories = ["team/app", "team/base", "other"].iter().map(|name| name.parse());
        let tags = ["latest", "v1", "v2", "v3"].iter().map(|name| name.parse());
        Ok(Self {
            repositories: repositories.collect::<Result<_, _>>()?,
            tags: tags.collect::<Result<_, _>>()?,
            blobs,
            images,
        })
    }

    pub(crate) fn image(&self, digest: &Digest) -> Option<&Image> {
        self.images.iter().find(|image| image.digest == *digest)
    }

    /// The bytes of a blob, or of an image's body.
    pub(crate) fn bytes(&self, digest: &Digest) -> Option<&Bytes> {
        self.blobs.get(digest).or_else(|| self.image(digest).map(|image| &image.body))
    }

    /// Every digest there is.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.keys().chain(self.images.iter().map(|image| &image.digest))
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
    let body = json!({"schemaVersion": 2, "mediaType": MEDIA_TYPE, "layers": layers,
                      "config": descriptor(&chosen[0], "config.v1+json"), "annotations": {"nth": padding}});
    let body = Bytes::from(body.to_string());
    Image { digest: Digest::sha256(&body), body, blobs: chosen }
}

//! Images whose seed decides all bytes, so that they need not be kept.

use atoll_types::Digest;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob of random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    seed: u64,
    /// How many.
    pub(crate) bytes: usize,
    pub(crate) digest: Digest,
}

impl Blob {
    /// The blob of a seed.
    pub(crate) fn new(seed: u64, bytes: usize) -> Self {
        Self { seed, bytes, digest: Digest::sha256(&random(seed, bytes)) }
    }

    /// Its bytes.
    pub(crate) fn content(&self) -> Vec<u8> {
        random(self.seed, self.bytes)
    }
}

fn random(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill_bytes(&mut content);
    content
}

/// An image: a manifest, and the blobs that it names, the config last.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Image {
    /// An image of these layers; the seed makes its config, and so the image, one of its own.
    pub(crate) fn new(seed: u64, layers: Vec<Blob>, subject: Option<&Self>) -> Self {
        let config = Blob::new(seed ^ 0xc0f1, 200 + (seed % 100) as usize);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config.digest, config.bytes),
            "layers": layers.iter().map(|l| descriptor(LAYER, &l.digest, l.bytes)).collect::<Vec<_>>(),
        });
        if let Some(subject) = subject {
            manifest["subject"] = descriptor(MANIFEST, &subject.digest, subject.manifest.len());
            manifest["artifactType"] = "application/vnd.example.chaos".into();
        }
        let manifest = manifest.to_string().into_bytes();
        let blobs = layers.into_iter().chain([config]).collect();
        Self { blobs, digest: Digest::sha256(&manifest), manifest }
    }
}

fn descriptor(media_type: &str, digest: &Digest, bytes: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_an_image() {
        let image = |seed| Image::new(seed, vec![Blob::new(seed, 1000)], None);
        assert_eq!(image(1).digest, image(1).digest);
        assert_ne!(image(1).digest, image(2).digest);
        let blob = image(1).blobs[0];
        assert_eq!(Digest::sha256(&blob.content()), blob.digest);
        let referrer = Image::new(3, Vec::new(), Some(&image(1)));
        assert!(String::from_utf8(referrer.manifest).unwrap().contains(&image(1).digest.to_string()));
    }
}

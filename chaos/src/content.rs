//! Images whose seed decides all bytes, so that they need not be kept.

use atoll_types::Digest;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
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

/// An image: a manifest, and the blobs that it names, the config last. Or an index, and the images that it names.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Of an index, those of its children: what a node has to hold that holds all of it.
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: Digest,
    /// Only an index has any.
    pub(crate) children: Vec<Self>,
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
            manifest["subject"] = descriptor(subject.media_type(), &subject.digest, subject.manifest.len());
            manifest["artifactType"] = "application/vnd.example.chaos".into();
        }
        let manifest = manifest.to_string().into_bytes();
        let blobs = layers.into_iter().chain([config]).collect();
        Self { blobs, digest: Digest::sha256(&manifest), manifest, children: Vec::new() }
    }

    /// An index of images; the seed makes it one of its own.
    pub(crate) fn index(seed: u64, children: Vec<Self>) -> Self {
        let of = |child: &Self| descriptor(child.media_type(), &child.digest, child.manifest.len());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": children.iter().map(of).collect::<Vec<_>>(),
            "annotations": { "com.example.seed": seed.to_string() },
        });
        let manifest = manifest.to_string().into_bytes();
        let blobs = children.iter().flat_map(|child| child.blobs.clone()).collect();
        Self { blobs, digest: Digest::sha256(&manifest), manifest, children }
    }

    /// Of its manifest.
    pub(crate) const fn media_type(&self) -> &'static str {
        if self.is_index() { INDEX } else { MANIFEST }
    }

    pub(crate) const fn is_index(&self) -> bool {
        !self.children.is_empty()
    }

    /// The digests to which its manifest refers.
    pub(crate) fn references(&self) -> Vec<String> {
        if self.is_index() {
            return self.children.iter().map(|child| child.digest.to_string()).collect();
        }
        self.blobs.iter().map(|blob| blob.digest.to_string()).collect()
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

    #[test]
    fn an_index_refers_to_its_children_and_has_their_blobs() {
        let image = |seed| Image::new(seed, vec![Blob::new(seed, 1000)], None);
        let index = Image::index(7, vec![image(1), image(2)]);
        assert_eq!((image(1).media_type(), index.media_type()), (MANIFEST, INDEX));
        assert_eq!(index.references(), [image(1).digest.to_string(), image(2).digest.to_string()]);
        assert_eq!(image(1).references().len(), 2, "its layer and its config");
        assert_eq!(index.blobs, [image(1).blobs, image(2).blobs].concat());
        assert_ne!(index.digest, Image::index(8, vec![image(1), image(2)]).digest);
    }
}

//! What is stored and asked for: blobs whose bytes follow from a seed, and images of them. Every server gets the same.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use sha2::{Digest as _, Sha256};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
/// A decimal megabyte, the unit of zb's workloads.
pub(crate) const MB: u64 = 1_000_000;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Long enough that no block of it, of whatever size a server works in, comes twice.
const STRETCH: usize = 256 << 10;
/// Bytes of a stretch's number, which is a piece of its own.
const NUMBER: usize = 8;
const PIECES: usize = 2;
/// The end of a layer that is pushed anew each time: all that differs from the one before.
const ENDING: usize = 64;

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    named(Sha256::digest(bytes).as_slice())
}

fn named(hash: &[u8]) -> String {
    format!("sha256:{}", const_hex::encode(hash))
}

/// Bytes that a seed makes. Stretches of 256 KiB, each of which begins with its number, so that a large blob takes no
/// more memory than one stretch.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) len: u64,
    stretch: Bytes,
}

impl Blob {
    pub(crate) fn new(seed: u64, len: u64) -> Self {
        let mut blob = Self { digest: String::new(), len, stretch: random(seed, STRETCH) };
        let mut hasher = Sha256::new();
        blob.frames().for_each(|frame| hasher.update(&frame));
        blob.digest = named(hasher.finalize().as_slice());
        blob
    }

    /// The whole blob, piece by piece: of each stretch its number, and then what all stretches share.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Bytes> + Send + 'static {
        let (stretch, len) = (self.stretch.clone(), self.len);
        (0..len.div_ceil(STRETCH as u64)).flat_map(move |number| {
            let rest = usize::try_from(len - number * STRETCH as u64).unwrap_or(STRETCH).min(STRETCH);
            let numbered = rest.min(NUMBER);
            [Bytes::copy_from_slice(&number.to_le_bytes()[..numbered]), stretch.slice(numbered..rest)]
        })
    }

    /// `len` bytes from `offset` on, which must lie within the blob.
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Vec<u8> {
        let first = (offset / STRETCH as u64) as usize;
        let skip = (offset % STRETCH as u64) as usize;
        self.frames().skip(first * PIECES).flatten().skip(skip).take(len).collect()
    }
}

fn random(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// A manifest, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: String,
    pub(crate) body: Bytes,
}

impl Manifest {
    /// An image of a config and layers, each given as digest and length.
    pub(crate) fn of(config: (&str, u64), layers: &[(&str, u64)]) -> Self {
        let descriptor = |media_type, (digest, size): (&str, u64)| json!({ "mediaType": media_type, "digest": digest, "size": size });
        let layers: Vec<_> = layers.iter().map(|layer| descriptor(LAYER_TYPE, *layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config),
            "layers": layers,
        });
        let body = Bytes::from(manifest.to_string());
        Self { digest: digest_of(&body), body }
    }
}

/// An image of one layer, with its blobs.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) config: Blob,
    pub(crate) layer: Blob,
    pub(crate) manifest: Manifest,
}

impl Image {
    pub(crate) fn new(seed: u64, layer: u64) -> Self {
        let (config, layer) = (Blob::new(seed, 512), Blob::new(seed + 1, layer));
        let manifest = Manifest::of((&config.digest, config.len), &[(&layer.digest, layer.len)]);
        Self { config, layer, manifest }
    }
}

/// Makes layers that are all different at the cost of 64 bytes of hashing each, so that the generator takes no time
/// from the server under test.
#[derive(Clone, Debug)]
pub(crate) struct LayerMaker {
    beginning: Blob,
    hashed: Sha256,
}

/// A layer as it is sent: what all share, and what it has alone.
#[derive(Clone, Debug)]
pub(crate) struct FreshLayer {
    pub(crate) digest: String,
    pub(crate) len: u64,
    beginning: Blob,
    ending: Bytes,
}

impl LayerMaker {
    /// Layers of `len` bytes, which must be more than 64.
    pub(crate) fn new(seed: u64, len: u64) -> Self {
        let beginning = Blob::new(seed, len - ENDING as u64);
        let mut hashed = Sha256::new();
        beginning.frames().for_each(|frame| hashed.update(&frame));
        Self { beginning, hashed }
    }

    /// A layer that no server has seen.
    pub(crate) fn fresh(&self) -> FreshLayer {
        let mut ending = [0; ENDING];
        rand::rng().fill_bytes(&mut ending);
        let hash = self.hashed.clone().chain_update(ending).finalize();
        let ending = Bytes::copy_from_slice(&ending);
        let len = self.beginning.len + ENDING as u64;
        FreshLayer { digest: named(hash.as_slice()), len, beginning: self.beginning.clone(), ending }
    }
}

impl FreshLayer {
    pub(crate) fn frames(&self) -> impl Iterator<Item = Bytes> + Send + 'static {
        self.beginning.frames().chain(std::iter::once(self.ending.clone()))
    }
}

/// Where pulls come from.
pub(crate) const PULL: &str = "bench/pull";
/// The repository whose tags are listed.
pub(crate) const TAGS: &str = "bench/tags";
/// How many it has.
pub(crate) const TAGS_COUNT: usize = 10_000;
/// zb's sizes in megabytes, and how many of a hundred pulls each gets.
pub(crate) const MIXED: [(u64, u64); 3] = [(1, 20), (10, 70), (100, 10)];

/// What the pulls of a run ask for.
#[derive(Debug)]
pub(crate) struct Content {
    /// Its manifest is what the rows of manifests ask for, under the tag `v1`; its layer is the blob of 4 KiB.
    pub(crate) small: Image,
    pub(crate) medium: Blob,
    pub(crate) large: Option<Blob>,
    pub(crate) huge: Option<Blob>,
    /// In the order of [`MIXED`]; the tag is the size in megabytes.
    pub(crate) mixed: Vec<Image>,
    pub(crate) tags: bool,
}

/// The parts that take time or room, and only some rows need.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) large: bool,
    pub(crate) huge: bool,
    pub(crate) mixed: bool,
    pub(crate) tags: bool,
}

impl Content {
    /// The image of what is small, which every run has.
    pub(crate) fn small_image() -> Image {
        Image::new(1, 4 * KIB)
    }

    pub(crate) fn new(wanted: Wanted) -> Self {
        let Wanted { large, huge, mixed, tags } = wanted;
        let images = MIXED.iter().map(|(mb, _)| Image::new(100 + mb, mb * MB));
        Self {
            small: Self::small_image(),
            medium: Blob::new(3, MIB),
            large: large.then(|| Blob::new(4, 64 * MIB)),
            huge: huge.then(|| Blob::new(5, GIB)),
            mixed: if mixed { images.collect() } else { Vec::new() },
            tags,
        }
    }

    /// Blobs that belong to no image.
    pub(crate) fn loose(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.medium).chain(&self.large).chain(&self.huge)
    }
}

/// The name of a tag of the repository whose tags are listed.
pub(crate) fn listed_tag(number: usize) -> String {
    format!("t{number:05}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_what_its_digest_says_and_its_slices_are_of_it() {
        let blob = Blob::new(7, 600 * KIB + 5);
        let whole: Vec<u8> = blob.frames().flatten().collect();
        assert_eq!(whole.len() as u64, blob.len);
        assert_eq!(digest_of(&whole), blob.digest);
        let at = 256 * 1024 - 3;
        assert_eq!(blob.slice(at as u64, 10), whole[at..at + 10]);
        assert_eq!(Blob::new(7, 600 * KIB + 5).digest, blob.digest);
    }

    #[test]
    fn fresh_layers_differ_and_have_their_length_and_digest() {
        let maker = LayerMaker::new(9, MIB);
        let (one, two) = (maker.fresh(), maker.fresh());
        assert_ne!(one.digest, two.digest);
        let whole: Vec<u8> = one.frames().flatten().collect();
        assert_eq!((whole.len() as u64, digest_of(&whole)), (one.len, one.digest));
    }

    #[test]
    fn the_shares_of_the_mixed_row_are_a_hundred() {
        assert_eq!(MIXED.iter().map(|(_, share)| share).sum::<u64>(), 100);
    }
}

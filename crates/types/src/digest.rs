//! Content digests as the OCI image specification defines them (descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every client and registry must support.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes.
    pub const fn hash_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// One byte for keys and values in storage. Landed: it never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The inverse of [`Algorithm::code`].
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// A hasher that computes digests of this algorithm.
    pub fn hasher(self) -> Hasher {
        Hasher::new(self)
    }

    /// The digest of bytes that are all at hand.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a string is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// No colon, or nothing on one side of it.
    #[error("a digest has the form ALGORITHM:HEX, for example sha256:e3b0c442...")]
    Form,
    /// An algorithm that is not registered, or that is not accepted here.
    #[error("the digest algorithm is not supported; use sha256 or sha512")]
    Algorithm,
    /// Not the right number of lower-case hexadecimal digits.
    #[error("a {algorithm} digest has {want} lower-case hexadecimal digits")]
    Hex {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// How many digits it asks for.
        want: usize,
    },
}

/// A verified-form content digest. Ordered by algorithm, then by hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// Padded with zeros to the longest algorithm, so that the type is `Copy`.
    hash: [u8; 64],
}

impl Digest {
    /// The longest form in storage: a code byte and 64 bytes of hash.
    pub const BYTES_MAX: usize = 65;

    /// From a raw hash; `None` when its length is not the algorithm's.
    pub fn new(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        if hash.len() != algorithm.hash_bytes() {
            return None;
        }
        let mut padded = [0; 64];
        padded[..hash.len()].copy_from_slice(hash);
        Some(Self { algorithm, hash: padded })
    }

    /// The SHA-256 digest of some bytes.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw hash.
    pub fn hash(&self) -> &[u8] {
        &self.hash[..self.algorithm.hash_bytes()]
    }

    /// The hash in lower-case hexadecimal, without the algorithm.
    pub fn hex(&self) -> String {
        const_hex::encode(self.hash())
    }

    /// The form in keys and values: the algorithm's code, then the hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.hash().len());
        out.push(self.algorithm.code());
        out.extend_from_slice(self.hash());
        out
    }

    /// The inverse of [`Digest::to_bytes`]; all bytes must belong to it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (code, hash) = bytes.split_first()?;
        Self::new(Algorithm::from_code(*code)?, hash)
    }

    /// Reads one from the front of a key and returns it with what follows.
    pub fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let algorithm = Algorithm::from_code(*bytes.first()?)?;
        let end = 1 + algorithm.hash_bytes();
        let digest = Self::from_bytes(bytes.get(..end)?)?;
        Some((digest, &bytes[end..]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text.split_once(':').ok_or(InvalidDigest::Form)?;
        if name.is_empty() || hex.is_empty() {
            return Err(InvalidDigest::Form);
        }
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(InvalidDigest::Algorithm),
        };
        let wrong = InvalidDigest::Hex { algorithm, want: algorithm.hash_bytes() * 2 };
        let lower = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex.len() != algorithm.hash_bytes() * 2 || !lower {
            return Err(wrong);
        }
        let hash = const_hex::decode(hex).map_err(|_| wrong.clone())?;
        Self::new(algorithm, &hash).ok_or(wrong)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a stream; cloning it keeps the state, so that an upload can go on from there.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-256 in progress.
    Sha256(sha2::Sha256),
    /// SHA-512 in progress.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        let mut hash = [0; 64];
        let algorithm = match self {
            Self::Sha256(h) => {
                hash[..32].copy_from_slice(&h.finalize());
                Algorithm::Sha256
            }
            Self::Sha512(h) => {
                hash.copy_from_slice(&h.finalize());
                Algorithm::Sha512
            }
        };
        Digest { algorithm, hash }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256(_) => "Hasher(sha256)",
            Self::Sha512(_) => "Hasher(sha512)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let empty = Digest::sha256(b"");
        assert_eq!(empty.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn what_is_not_a_digest_is_refused_with_the_reason() {
        for (text, why) in [
            ("", InvalidDigest::Form),
            ("sha256", InvalidDigest::Form),
            ("sha256:", InvalidDigest::Form),
            (":abc", InvalidDigest::Form),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", InvalidDigest::Algorithm),
            ("SHA256:00", InvalidDigest::Algorithm),
            ("sha256:short", InvalidDigest::Hex { algorithm: Algorithm::Sha256, want: 64 }),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(why), "{text}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert!(upper.parse::<Digest>().is_err(), "upper-case digits are not canonical");
    }

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(content: Vec<u8>, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = algorithm.digest(&content);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            prop_assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
            let mut key = digest.to_bytes();
            key.extend_from_slice(b"rest");
            prop_assert_eq!(Digest::split_from(&key), Some((digest, &b"rest"[..])));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Digest>();
        }

        #[test]
        fn a_cloned_hasher_goes_on_from_where_it_was(a: Vec<u8>, b: Vec<u8>) {
            let mut first = Algorithm::Sha256.hasher();
            first.update(&a);
            let mut second = first.clone();
            second.update(&b);
            prop_assert_eq!(second.finish(), Digest::sha256(&[a.clone(), b].concat()));
            prop_assert_eq!(first.finish(), Digest::sha256(&a));
        }
    }
}

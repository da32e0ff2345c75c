//! How keys and values are put together and taken apart.

use std::str::FromStr;

use atoll_types::{Digest, ObjectName, Revision, StoreId};
use prost::Message;

use crate::{Family, KvError, KvRead};

/// In front of every value: which version of its message follows.
const VERSION: u8 = 1;

/// A kind of key.
pub(crate) trait Key: Sized {
    /// Where it lives.
    const FAMILY: Family = Family::State;
    /// Its first byte.
    const PREFIX: u8;
    /// What it holds.
    type Record: Message + Default;

    /// Writes what follows the first byte.
    fn write(&self, to: &mut Writer);

    /// The inverse of [`Key::write`].
    fn read(from: &mut Reader<'_>) -> Option<Self>;

    /// The whole key.
    fn encode(&self) -> Vec<u8> {
        let mut to = Writer(vec![Self::PREFIX]);
        self.write(&mut to);
        to.0
    }

    /// The inverse of [`Key::encode`].
    fn decode(key: &[u8]) -> Result<Self, KvError> {
        let wrong = || KvError(format!("undecodable key {}", const_hex::encode(key)));
        let (prefix, rest) = key.split_first().ok_or_else(wrong)?;
        let mut from = Reader(rest);
        let decoded = Self::read(&mut from).ok_or_else(wrong)?;
        if *prefix == Self::PREFIX && from.0.is_empty() { Ok(decoded) } else { Err(wrong()) }
    }
}

/// The record of keys that say all by being there.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {}

/// A key, or its beginning, being written.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A name or a tag, ended by a zero byte.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self
    }

    /// A digest, with its algorithm.
    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.0.push(digest.algorithm().code());
        self.0.extend_from_slice(digest.hash());
        self
    }

    /// A number, big-endian.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A revision.
    pub(crate) fn revision(&mut self, revision: Revision) -> &mut Self {
        self.number(revision.0)
    }

    /// An object's name.
    pub(crate) fn object(&mut self, object: &ObjectName) -> &mut Self {
        self.number(object.epoch()).bytes(object.random_bits())
    }

    /// Bytes as they are: of a fixed length, or last.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// What is left of a key that is being read.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The inverse of [`Writer::text`].
    pub(crate) fn text<T: FromStr>(&mut self) -> Option<T> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = &self.0[end + 1..];
        text.parse().ok()
    }

    /// The inverse of [`Writer::digest`].
    pub(crate) fn digest(&mut self) -> Option<Digest> {
        let (digest, rest) = Digest::split_from(self.0)?;
        self.0 = rest;
        Some(digest)
    }

    /// Bytes of a fixed length.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// The inverse of [`Writer::number`].
    pub(crate) fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// The inverse of [`Writer::revision`].
    pub(crate) fn revision(&mut self) -> Option<Revision> {
        self.number().map(Revision)
    }

    /// The inverse of [`Writer::object`].
    pub(crate) fn object(&mut self) -> Option<ObjectName> {
        Some(ObjectName::from_parts(self.number()?, self.array()?))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// The beginning of the keys of one kind.
pub(crate) fn prefix<K: Key>(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut to = Writer(vec![K::PREFIX]);
    write(&mut to);
    to.0
}

/// The first key after all that begin with a prefix.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// At most `limit` keys with their records, from a key on, that begin with a prefix.
pub(crate) fn page<K: Key>(
    kv: &dyn KvRead,
    prefix: &[u8],
    from: &[u8],
    limit: usize,
) -> Result<Vec<(K, K::Record)>, KvError> {
    let pairs = kv.scan(K::FAMILY, from.max(prefix), &end_of(prefix), limit)?;
    pairs.into_iter().map(|(key, bytes)| Ok((K::decode(&key)?, value::<K>(&key, &bytes)?))).collect()
}

/// A record as a value.
pub(crate) fn encode_value(record: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + record.encoded_len());
    bytes.push(VERSION);
    // A vector grows, so that this cannot fail.
    let _ = record.encode(&mut bytes);
    bytes
}

/// The record in a value.
pub(crate) fn value<K: Key>(key: &[u8], bytes: &[u8]) -> Result<K::Record, KvError> {
    let wrong = |why: String| KvError(format!("value of key {}: {why}", const_hex::encode(key)));
    match bytes.split_first() {
        Some((&VERSION, record)) => K::Record::decode(record).map_err(|error| wrong(error.to_string())),
        Some((version, _)) => Err(wrong(format!("written in format {version} by a newer version; upgrade this node"))),
        None => Err(wrong("empty".into())),
    }
}

/// A digest within a record.
pub(crate) fn digest_of(bytes: &[u8]) -> Result<Digest, KvError> {
    Digest::from_bytes(bytes).ok_or_else(|| KvError("a record holds no valid digest".into()))
}

/// A store within a record; empty is none.
pub(crate) fn store_of(bytes: &[u8]) -> Result<Option<StoreId>, KvError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    StoreId::from_slice(bytes).map(Some).ok_or_else(|| KvError("a record holds no valid store id".into()))
}

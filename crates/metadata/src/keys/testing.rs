//! What the tests of all keys share.

use atoll_types::{Algorithm, Digest, ObjectName, RegionId, RepositoryName, Revision, Tag};
use proptest::prelude::*;

use super::Key;
use super::codec::{encode_value, value};

/// A key comes back as it was, and its value too.
pub(super) fn round_trips<K: Key + PartialEq + std::fmt::Debug>(key: K, record: K::Record) -> Result<(), TestCaseError>
where
    K::Record: PartialEq + std::fmt::Debug,
{
    let bytes = key.encode();
    let decoded = K::decode(&bytes)?;
    prop_assert_eq!(decoded, key);
    let again = value::<K>(&bytes, &encode_value(&record))?;
    prop_assert_eq!(again, record);
    for end in 0..bytes.len() {
        prop_assert!(K::decode(&bytes[..end]).is_err(), "no key is a prefix of another");
    }
    Ok(())
}

/// The bytes are those that have landed.
pub(super) fn golden<K: Key>(key: &K, record: &K::Record, key_hex: &str, value_hex: &str) {
    let found = (const_hex::encode(key.encode()), const_hex::encode(encode_value(record)));
    assert_eq!(found, (key_hex.to_owned(), value_hex.to_owned()));
}

pub(super) fn repositories() -> impl Strategy<Value = RepositoryName> {
    "[a-z0-9]{1,4}(/[a-z0-9]{1,4}){0,2}".prop_map(|text| text.parse().unwrap())
}

pub(super) fn tags() -> impl Strategy<Value = Tag> {
    "[A-Za-z0-9_][A-Za-z0-9._-]{0,6}".prop_map(|text| text.parse().unwrap())
}

pub(super) fn regions() -> impl Strategy<Value = RegionId> {
    "[a-z0-9]{1,6}(-[a-z0-9]{1,3})?".prop_map(|text| text.parse().unwrap())
}

pub(super) fn digests() -> impl Strategy<Value = Digest> {
    (any::<bool>(), any::<[u8; 8]>())
        .prop_map(|(long, content)| if long { Algorithm::Sha512.digest(&content) } else { Digest::sha256(&content) })
}

pub(super) fn objects() -> impl Strategy<Value = ObjectName> {
    (any::<u64>(), any::<[u8; 16]>()).prop_map(|(epoch, random)| ObjectName::from_parts(epoch, random))
}

pub(super) fn revisions() -> impl Strategy<Value = Revision> {
    any::<u64>().prop_map(Revision)
}

pub(super) fn repository() -> RepositoryName {
    "library/alpine".parse().unwrap()
}

pub(super) fn a_tag() -> Tag {
    "v1.0".parse().unwrap()
}

pub(super) fn region() -> RegionId {
    "us-east".parse().unwrap()
}

pub(super) fn digest() -> Digest {
    Digest::sha256(b"blob")
}

pub(super) fn object() -> ObjectName {
    ObjectName::from_parts(7, [0xab; 16])
}

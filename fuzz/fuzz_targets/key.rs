//! Keys of the state: one key, one spelling; no key is a prefix of another; listings are in the order of what they list.
#![no_main]

use arbitrary::Arbitrary;
use atoll_metadata::raw_keys as keys;
use atoll_types::{Algorithm, Digest, ObjectName, Revision};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    key: &'a [u8],
    value: &'a [u8],
    texts: [&'a str; 4],
    hashes: [[u8; 32]; 2],
    long: [bool; 2],
    numbers: [u64; 4],
}

fuzz_target!(|input: Input<'_>| {
    spelling(input.key, input.value);
    let digest = |n: usize| {
        let hash = input.hashes[n];
        if input.long[n] { Algorithm::Sha512.digest(&hash) } else { Digest::new(Algorithm::Sha256, &hash).unwrap() }
    };
    let digests = [digest(0), digest(1)];
    order_of_repositories(&input, &digests);
    order_of_regions(&input, &digests);
});

fn spelling(key: &[u8], value: &[u8]) {
    // Each kind is tried with the same rest, so that the corpus need not find its first byte.
    let rest = key.get(1..).unwrap_or_default();
    for prefix in keys::prefixes() {
        let key = [&[prefix], rest].concat();
        let Some(again) = keys::again(&key) else { continue };
        assert_eq!(again, key, "a key has one spelling");
        let longer = [key.as_slice(), &[0]].concat();
        // Tombstones end with the key that they are of, which is any bytes.
        if prefix != 0x33 && prefix != 0x34 {
            assert_eq!(keys::again(&longer), None, "no key is a prefix of another");
        }
        if let Some(once) = keys::value_again(&key, value) {
            assert_eq!(keys::value_again(&key, &once), Some(once.clone()), "a value that was read is written the same");
        }
    }
}

fn order_of_repositories(input: &Input<'_>, digests: &[Digest; 2]) {
    let [a, b, v, w] = input.texts;
    let (Ok(a), Ok(b)) = (a.parse(), b.parse()) else { return };
    assert_eq!(keys::link(&a, &digests[0]).cmp(&keys::link(&b, &digests[1])), (&a, digests[0]).cmp(&(&b, digests[1])));
    let (Ok(v), Ok(w)) = (v.parse(), w.parse()) else { return };
    assert_eq!(keys::tag(&a, &v).cmp(&keys::tag(&b, &w)), (&a, &v).cmp(&(&b, &w)), "tags are listed in byte order");
}

fn order_of_regions(input: &Input<'_>, digests: &[Digest; 2]) {
    let [a, b, ..] = input.texts;
    let (Ok(a), Ok(b)) = (a.parse(), b.parse()) else { return };
    let [first, second, epoch, other] = input.numbers;
    let (first, second) = (Revision(first), Revision(second));
    let wanted = keys::wanted(&a, first, &digests[0]).cmp(&keys::wanted(&b, second, &digests[1]));
    assert_eq!(wanted, (&a, first, digests[0]).cmp(&(&b, second, digests[1])), "the oldest is first");
    let object = |epoch, digest: &Digest| {
        ObjectName::from_parts(epoch, *digest.hash().first_chunk().expect("a hash has 32 bytes"))
    };
    let (x, y) = (object(epoch, &digests[0]), object(other, &digests[1]));
    let garbage = keys::garbage(&a, first, &x).cmp(&keys::garbage(&b, second, &y));
    assert_eq!(garbage, (&a, first, x).cmp(&(&b, second, y)), "the oldest is first");
}

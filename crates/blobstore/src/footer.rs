//! What follows an object's bytes in its file. One file needs one sync, and cannot be torn apart.
//!
//! ```text
//! bytes | checksums, 8 bytes each | size u64 | count u32 | version u32 | XXH3-64 of the footer u64 | magic 8 bytes
//! ```
//!
//! All numbers are little-endian. The footer's own checksum covers the object's name too, so that a file under a wrong
//! name is found out. How many checksums there are follows from the size, so that the size of an object follows from
//! the length of its file alone. Landed: a new layout gets a new version.

use atoll_types::ObjectName;
use xxhash_rust::xxh3::Xxh3;

use crate::BlockChecksums;

const MAGIC: [u8; 8] = *b"ATOLLOBJ";
const VERSION: u32 = 1;
const TAIL_BYTES: u64 = 32;

/// The length of the footer of an object of this size, in bytes.
pub(crate) const fn footer_bytes(size: u64) -> u64 {
    8 * BlockChecksums::count_for(size) + TAIL_BYTES
}

/// The size of the object in a file of this length; `None` if no object has such a file.
pub(crate) fn size_of(file_bytes: u64) -> Option<u64> {
    let rest = file_bytes.checked_sub(TAIL_BYTES)?;
    let size = if rest <= BlockChecksums::WHOLE_BYTES_MAX {
        rest
    } else {
        rest.checked_sub(8 * rest.div_ceil(BlockChecksums::BLOCK_BYTES + 8))?
    };
    (size + footer_bytes(size) == file_bytes).then_some(size)
}

/// The footer of an object.
pub(crate) fn encode(name: &ObjectName, size: u64, checksums: &BlockChecksums) -> Vec<u8> {
    let mut out = Vec::with_capacity(checksums.0.len() * 8 + TAIL_BYTES as usize);
    for checksum in &checksums.0 {
        out.extend_from_slice(&checksum.to_le_bytes());
    }
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&(checksums.0.len() as u32).to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    let own = own_checksum(name, &out);
    out.extend_from_slice(&own.to_le_bytes());
    out.extend_from_slice(&MAGIC);
    out
}

/// Checks a footer that belongs to an object of this name and size; else says what is wrong with it.
pub(crate) fn decode(name: &ObjectName, size: u64, bytes: &[u8]) -> Result<BlockChecksums, String> {
    let (covered, own) = bytes.len().checked_sub(16).map(|at| bytes.split_at(at)).ok_or("its footer is cut off")?;
    let (own, magic) = own.split_at(8);
    if magic != MAGIC {
        return Err("its file does not end as an object's does".into());
    }
    if own != own_checksum(name, covered).to_le_bytes() {
        return Err("its footer does not match its own checksum".into());
    }
    let (checksums, numbers) = covered.as_chunks::<8>().0.split_at((covered.len() / 8).saturating_sub(2));
    let [stored_size, count_version] = numbers else { return Err("its footer is cut off".into()) };
    let version = u64::from_le_bytes(*count_version) >> 32;
    if version != u64::from(VERSION) {
        return Err(format!("its footer has version {version}, and this node knows {VERSION}; run a newer one"));
    }
    let (stored_size, count) = (u64::from_le_bytes(*stored_size), u64::from_le_bytes(*count_version) & 0xffff_ffff);
    if stored_size != size || count != checksums.len() as u64 {
        return Err(format!("it had {stored_size} bytes when it was written, and has {size}"));
    }
    Ok(BlockChecksums(checksums.iter().map(|c| u64::from_le_bytes(*c)).collect()))
}

fn own_checksum(name: &ObjectName, covered: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(name.to_string().as_bytes());
    hasher.update(covered);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: ObjectName = ObjectName::from_parts(7, [0xab; 16]);

    #[test]
    fn the_layout_has_landed() {
        let golden = "0100000000000000ffffffffffffffff010004000000000002000000010000000392004aa8033df841544f4c4c4f424a";
        let checksums = BlockChecksums(vec![1, u64::MAX]);
        let encoded: String = encode(&NAME, 262_145, &checksums).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(encoded, golden);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = encode(&NAME, 262_145, &BlockChecksums(vec![1, 2]));
        assert!(decode(&NAME, 262_145, &good).is_ok());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&NAME, 262_145, &bad).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(decode(&NAME, 262_145, &good[..cut]).is_err(), "cut at {cut}");
            assert!(decode(&NAME, 262_145, &good[cut + 1..]).is_err(), "cut before {cut}");
        }
        assert!(decode(&ObjectName::from_parts(8, [0xab; 16]), 262_145, &good).is_err(), "another name");
        assert!(decode(&NAME, 262_146, &good).is_err(), "another size");
    }

    proptest! {
        #[test]
        fn footers_round_trip(size in 0_u64..4_000_000, seed: u64) {
            let checksums = BlockChecksums((0..BlockChecksums::count_for(size)).map(|i| seed.wrapping_mul(i)).collect());
            let bytes = encode(&NAME, size, &checksums);
            prop_assert_eq!(bytes.len() as u64, footer_bytes(size));
            prop_assert_eq!(decode(&NAME, size, &bytes), Ok(checksums));
        }

        #[test]
        fn the_length_of_a_file_tells_the_size(size in 0_u64..1 << 50, near in 0_u64..40) {
            for size in [size, size / BlockChecksums::BLOCK_BYTES * BlockChecksums::BLOCK_BYTES + near, near << 14] {
                prop_assert_eq!(size_of(size + footer_bytes(size)), Some(size));
            }
        }

        #[test]
        fn no_length_and_no_bytes_make_it_panic(length: u64, bytes: Vec<u8>) {
            if let Some(size) = size_of(length) {
                prop_assert_eq!(size + footer_bytes(size), length);
            }
            let _ = decode(&NAME, bytes.len() as u64, &bytes);
        }
    }
}

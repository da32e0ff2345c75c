//! Checksums of blocks: XXH3-64 of each 256 KiB.

use atoll_types::ObjectName;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::StoreError;

/// XXH3-64 of each 256 KiB block of an object, in order. Empty for an object of at most
/// [`BlockChecksums::WHOLE_BYTES_MAX`], which is checked by its digest instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockChecksums(pub Vec<u64>);

impl BlockChecksums {
    /// Size of a block in bytes; the last one of an object may be shorter.
    pub const BLOCK_BYTES: u64 = 256 << 10;
    /// Largest object that has no checksums, in bytes.
    pub const WHOLE_BYTES_MAX: u64 = 64 << 10;

    /// How many checksums an object of this size has. A store refuses to complete one that has another number.
    pub const fn count_for(size: u64) -> u64 {
        if size <= Self::WHOLE_BYTES_MAX { 0 } else { size.div_ceil(Self::BLOCK_BYTES) }
    }

    /// The checksums of bytes that are all at hand.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = BlockHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Refuses a number of checksums that the size of an object does not ask for, with the error that
    /// [`ObjectWriter::complete`](crate::ObjectWriter::complete) owes.
    pub fn check_count(&self, name: &ObjectName, size: u64) -> Result<(), StoreError> {
        let (have, want) = (self.0.len() as u64, Self::count_for(size));
        if have == want {
            return Ok(());
        }
        Err(StoreError::Other(format!("{name} has {size} bytes, which asks for {want} checksums, not {have}")))
    }
}

/// The checksum of one block.
pub fn block_checksum(block: &[u8]) -> u64 {
    xxh3_64(block)
}

/// Computes [`BlockChecksums`] of bytes that come in pieces of any length.
#[derive(Clone, Default)]
pub struct BlockHasher {
    done: Vec<u64>,
    open: Xxh3,
    open_bytes: u64,
}

impl BlockHasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BlockChecksums::BLOCK_BYTES - self.open_bytes) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.update(now);
            self.open_bytes += now.len() as u64;
            if self.open_bytes == BlockChecksums::BLOCK_BYTES {
                self.close_block();
            }
            bytes = later;
        }
    }

    /// The number of bytes taken in.
    pub fn bytes(&self) -> u64 {
        self.done.len() as u64 * BlockChecksums::BLOCK_BYTES + self.open_bytes
    }

    /// Gives memory back that is only there for more blocks.
    pub(crate) fn shrink(&mut self) {
        self.done.shrink_to_fit();
    }

    /// Memory that it holds beyond its own size.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.done.capacity() * size_of::<u64>()
    }

    /// The checksums of all bytes taken in.
    pub fn finish(mut self) -> BlockChecksums {
        if self.bytes() <= BlockChecksums::WHOLE_BYTES_MAX {
            return BlockChecksums::default();
        }
        if self.open_bytes > 0 {
            self.close_block();
        }
        BlockChecksums(self.done)
    }

    fn close_block(&mut self) {
        self.done.push(self.open.digest());
        self.open.reset();
        self.open_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_at_the_borders_have_the_right_number_of_checksums() {
        let (block, whole) = (BlockChecksums::BLOCK_BYTES, BlockChecksums::WHOLE_BYTES_MAX);
        for (size, count) in [(0, 0), (whole, 0), (whole + 1, 1), (block, 1), (block + 1, 2), (2 * block, 2)] {
            assert_eq!(BlockChecksums::count_for(size), count, "{size}");
            assert_eq!(BlockChecksums::of(&vec![7; size as usize]).0.len() as u64, count, "{size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pieces_of_any_length_give_the_checksums_of_the_blocks(
            size in 0_usize..900_000, seed: u8, cuts in prop::collection::vec(0_usize..900_000, 0..12)
        ) {
            let bytes: Vec<u8> = (0..size).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(size)).chain([0, size]).collect();
            cuts.sort_unstable();
            let mut hasher = BlockHasher::default();
            for pair in cuts.windows(2) {
                hasher.update(&bytes[pair[0]..pair[1]]);
            }
            prop_assert_eq!(hasher.bytes(), size as u64);
            let model: Vec<u64> = if size as u64 <= BlockChecksums::WHOLE_BYTES_MAX {
                Vec::new()
            } else {
                bytes.chunks(BlockChecksums::BLOCK_BYTES as usize).map(block_checksum).collect()
            };
            prop_assert_eq!(hasher.finish().0, model);
        }
    }
}

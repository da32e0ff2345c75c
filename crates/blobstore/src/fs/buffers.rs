//! Buffers of pieces, used again: a piece is so large that the allocator takes it from the operating system and gives it
//! back, with all of its pages to be cleared the next time.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::read::PIECE_BYTES;

/// Most buffers that are kept for later: 8 MiB.
const KEPT_MAX: usize = 32;
/// What is smaller costs the allocator little, and would hold a whole buffer.
const POOLED_BYTES_MIN: usize = 64 << 10;

/// Buffers that nobody uses at the moment.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back when nobody refers to its bytes any more.
struct Lent {
    bytes: Vec<u8>,
    from: Buffers,
}

impl Buffers {
    /// An empty buffer with room for so many bytes.
    pub(super) fn take(&self, count: usize) -> Vec<u8> {
        if count < POOLED_BYTES_MIN {
            return Vec::with_capacity(count);
        }
        let kept = self.0.lock().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(count.max(PIECE_BYTES as usize)))
    }

    /// The bytes of a buffer that was taken here and filled.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() < PIECE_BYTES as usize {
            return Bytes::from(bytes);
        }
        Bytes::from_owner(Lent { bytes, from: self.clone() })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut kept = self.from.0.lock();
        if kept.len() < KEPT_MAX && bytes.capacity() == PIECE_BYTES as usize {
            bytes.clear();
            kept.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_refers_to_its_bytes() {
        let buffers = Buffers::default();
        let mut first = buffers.take(PIECE_BYTES as usize);
        first.extend_from_slice(b"first");
        let place = first.as_ptr();
        let bytes = buffers.lend(first);
        let slice = bytes.slice(1..3);
        drop(bytes);
        let other = buffers.take(PIECE_BYTES as usize);
        assert_ne!(other.as_ptr(), place, "a slice of it is still there");
        assert_eq!(slice, &b"ir"[..]);
        drop(slice);
        let again = buffers.take(100 << 10);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn small_ones_are_not_kept_and_of_large_ones_only_some() {
        let buffers = Buffers::default();
        drop(buffers.lend(buffers.take(10)));
        assert!(buffers.0.lock().is_empty());
        let lent: Vec<Bytes> = (0..2 * KEPT_MAX).map(|_| buffers.lend(buffers.take(PIECE_BYTES as usize))).collect();
        drop(lent);
        assert_eq!(buffers.0.lock().len(), KEPT_MAX);
    }
}

//! Sources whose copy of a blob turned out wrong lately: they are asked last.

use std::collections::HashMap;
use std::time::Duration;

use atoll_types::{Digest, NodeId};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Most blobs whose bad sources are remembered.
const BLOBS_MAX: usize = 1_024;
/// How long a source that had no usable copy is asked last. It may be that it only lags.
const COPY_FOR: Duration = Duration::from_secs(30);
/// How long one that contributed to bytes of a wrong digest is: every attempt costs the whole blob.
const DIGEST_FOR: Duration = Duration::from_secs(3_600);

/// Sources to be asked last, for each blob.
#[derive(Default)]
pub(crate) struct Suspects(Mutex<HashMap<Digest, HashMap<NodeId, Instant>>>);

impl Suspects {
    /// Who is to be asked last for a blob.
    pub(crate) fn of(&self, digest: &Digest) -> Vec<NodeId> {
        self.at(digest, Instant::now())
    }

    fn at(&self, digest: &Digest, now: Instant) -> Vec<NodeId> {
        let suspects = self.0.lock();
        let nodes = suspects.get(digest).into_iter().flatten();
        nodes.filter(|(_, until)| **until > now).map(|(node, _)| *node).collect()
    }

    /// A source has no usable copy: none at all, or one with a block that does not match its checksum.
    pub(crate) fn bad_copy(&self, digest: Digest, node: NodeId) {
        self.note(digest, [node], COPY_FOR);
    }

    /// These sources sent bytes that together do not have the digest.
    pub(crate) fn wrong_digest(&self, digest: Digest, nodes: Vec<NodeId>) {
        tracing::error!(%digest, ?nodes, "the bytes that came do not have the blob's digest; these nodes are asked last for it from now on: scrub their regions");
        self.note(digest, nodes, DIGEST_FOR);
    }

    fn note(&self, digest: Digest, nodes: impl IntoIterator<Item = NodeId>, time: Duration) {
        let now = Instant::now();
        let mut suspects = self.0.lock();
        if suspects.len() >= BLOBS_MAX && !suspects.contains_key(&digest) {
            suspects.retain(|_, nodes| nodes.values().any(|until| *until > now));
            if suspects.len() >= BLOBS_MAX {
                suspects.clear();
            }
        }
        let known = suspects.entry(digest).or_default();
        for node in nodes {
            let until = known.entry(node).or_insert(now);
            *until = (*until).max(now + time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_is_of_one_blob_and_passes() {
        let (suspects, blob, other) = (Suspects::default(), Digest::sha256(b"1"), Digest::sha256(b"2"));
        let start = Instant::now();
        suspects.wrong_digest(blob, vec![NodeId(1)]);
        suspects.bad_copy(blob, NodeId(1));
        suspects.bad_copy(blob, NodeId(2));
        let mut nodes = suspects.at(&blob, start);
        nodes.sort_unstable();
        assert_eq!((nodes, suspects.of(&other)), (vec![NodeId(1), NodeId(2)], Vec::new()));
        let later = Instant::now() + COPY_FOR;
        assert_eq!(suspects.at(&blob, later), [NodeId(1)], "a wrong digest is remembered for longer");
        assert!(suspects.at(&blob, later + DIGEST_FOR).is_empty());
    }

    #[test]
    fn they_stay_bounded() {
        let suspects = Suspects::default();
        for i in 0..3 * BLOBS_MAX {
            suspects.bad_copy(Digest::sha256(&i.to_le_bytes()), NodeId(1));
        }
        assert!(suspects.0.lock().len() <= BLOBS_MAX);
    }
}

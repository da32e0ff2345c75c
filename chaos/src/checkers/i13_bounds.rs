//! I13: memory, descriptors, threads and temporary disk stay bounded.

use crate::history::{History, Usage};

/// A node of the test profile, which is not stripped of anything.
const RESIDENT_BYTES_MAX: u64 = 640 << 20;
const DESCRIPTORS_MAX: u64 = 2_000;
const THREADS_MAX: u64 = 700;
/// Unfinished uploads of all clients, and what a pull reads through.
const TEMPORARY_BYTES_MAX: u64 = 512 << 20;

/// Every sample of every node.
pub(super) fn check(history: &History) -> Vec<String> {
    history.usage.iter().flat_map(over).collect()
}

fn over(usage: &Usage) -> impl Iterator<Item = String> {
    let node = usage.node;
    let bounds = [
        ("resident bytes", usage.resident_bytes, RESIDENT_BYTES_MAX),
        ("descriptors", usage.descriptors, DESCRIPTORS_MAX),
        ("threads", usage.threads, THREADS_MAX),
        ("temporary bytes", usage.temporary_bytes, TEMPORARY_BYTES_MAX),
    ];
    bounds
        .into_iter()
        .filter(|(_, used, most)| used > most)
        .map(move |(what, used, most)| format!("node {node} has {used} {what}; at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_beyond_its_bound_is_found() {
        let usage = Usage { node: 0, at: 0, resident_bytes: 1, descriptors: 1, threads: 1, temporary_bytes: 1 };
        let found = |usage| check(&History { usage: vec![usage], ..History::default() }).len();
        assert_eq!(found(usage), 0);
        assert_eq!(found(Usage { resident_bytes: 1 << 30, ..usage }), 1);
        assert_eq!(found(Usage { descriptors: 5_000, threads: 5_000, ..usage }), 2);
        assert_eq!(found(Usage { temporary_bytes: 1 << 30, ..usage }), 1);
    }
}

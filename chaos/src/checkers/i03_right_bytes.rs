//! I3: no answer is completed with bytes that are not those of the digest; ranges included.

use crate::history::{Brought, History};

/// No read may bring other bytes, whenever it is made.
pub(super) fn check(history: &History) -> Vec<String> {
    let wrong = history.reads.iter().filter(|r| r.brought == Brought::Wrong);
    let told = wrong.map(|r| {
        let range = r.range.map_or(String::new(), |(first, length)| format!(", {length} bytes from {first}"));
        format!("{:?} {}@{}{range}: wrong bytes at node {}", r.what, r.repository, r.digest, r.span.node)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::read;
    use super::*;
    use crate::history::What;

    #[test]
    fn wrong_bytes_are_found_and_torn_ones_are_none() {
        let found = |brought| {
            check(&History { reads: vec![read(What::Blob, "a", (0, 1), brought)], ..History::default() }).len()
        };
        assert_eq!(found(Brought::Wrong), 1);
        for fine in [Brought::Right, Brought::Torn, Brought::Absent, Brought::Nothing] {
            assert_eq!(found(fine), 0, "{fine:?}");
        }
    }
}

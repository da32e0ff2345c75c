//! The Content-Range of a chunk is what a plain reading in 128-bit numbers makes of it, and comes back when printed.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/http/src/range.rs"]
mod parser;

use std::ops::Range;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use parser::parse_chunk;
use regex::Regex;

static CHUNK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)^(bytes[ =]*)?([0-9]+)-([0-9]+)(/.*)?$").unwrap());

fuzz_target!(|header: &str| {
    let found = parse_chunk(header);
    assert_eq!(found, plainly(header), "{header:?}");
    let Some(range) = found else { return };
    let (first, last) = (range.start, range.end - 1);
    for printed in [format!("{first}-{last}"), format!("bytes {first}-{last}/*"), format!("bytes={first}-{last}")] {
        assert_eq!(parse_chunk(&printed), Some(range.clone()), "{printed}");
    }
});

fn plainly(header: &str) -> Option<Range<u64>> {
    let parts = CHUNK.captures(header.trim())?;
    let number = |digits: &str| digits.parse().unwrap_or(u128::MAX - 1);
    let (first, end) = (number(&parts[2]), number(&parts[3]) + 1);
    (first < end).then_some(())?;
    Some(u64::try_from(first).ok()?..u64::try_from(end).ok()?)
}

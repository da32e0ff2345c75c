//! A Range is understood as a plain reading of RFC 9110 in 128-bit numbers understands it, and never leaves its blob.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/http/src/range.rs"]
mod parser;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use parser::Requested;
use regex::Regex;

static RANGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^bytes=\s*([0-9]*)\s*-\s*([0-9]*)\s*$").unwrap());

// Eight bytes of size, then the header.
fuzz_target!(|input: &[u8]| {
    let Some((size, header)) = input.split_first_chunk() else { return };
    let (size, Ok(header)) = (u64::from_le_bytes(*size), std::str::from_utf8(header)) else { return };
    let found = Requested::parse(header, size);
    assert_eq!(found, plainly(header, size), "{header:?} of {size}");
    if let Requested::Part(range) = found {
        assert!(range.start < range.end && range.end <= size);
        let printed = format!("bytes={}-{}", range.start, range.end - 1);
        assert_eq!(Requested::parse(&printed, size), Requested::Part(range));
    }
});

/// What no 128-bit number holds is larger than any blob all the same.
fn number(digits: &str) -> Option<u128> {
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u128::MAX - 1))
}

fn plainly(header: &str, size: u64) -> Requested {
    let Some(parts) = RANGE.captures(header) else { return Requested::Whole };
    let whole = u128::from(size);
    let (start, end) = match (number(&parts[1]), number(&parts[2])) {
        (None, None) => return Requested::Whole,
        (None, Some(length)) => (whole - length.min(whole), whole),
        (Some(first), None) => (first, whole),
        (Some(first), Some(last)) => (first, whole.min(last + 1)),
    };
    if start < end { Requested::Part(start as u64..end as u64) } else { Requested::Unsatisfiable }
}

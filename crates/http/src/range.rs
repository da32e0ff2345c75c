//! Byte ranges: `Range` of a pull (RFC 9110, section 14) and `Content-Range` of an upload's chunk (OCI).

use std::ops::Range;

/// What a `Range` header asks for, given the size of what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// All of it: no range, several ranges, or something that is not a range.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that exists.
    Unsatisfiable,
}

impl Requested {
    /// Reads a header. Several ranges and malformed ones are ignored, as RFC 9110 permits; a reversed one is
    /// unsatisfiable, as OCI's conformance suite expects.
    pub(crate) fn parse(header: &str, size: u64) -> Self {
        let Some(spec) = header.strip_prefix("bytes=").map(str::trim) else { return Self::Whole };
        let Some((first, last)) = spec.split_once('-') else { return Self::Whole };
        let (first, last) = (first.trim(), last.trim());
        match (decimal(first), decimal(last)) {
            (None, Some(length)) if first.is_empty() => Self::within(size.saturating_sub(length), size, size),
            (Some(first), None) if last.is_empty() => Self::within(first, size, size),
            (Some(first), Some(last)) => Self::within(first, last.saturating_add(1), size),
            _ => Self::Whole,
        }
    }

    fn within(start: u64, end: u64, size: u64) -> Self {
        let end = end.min(size);
        if start < end { Self::Part(start..end) } else { Self::Unsatisfiable }
    }
}

/// The bytes that a chunk says to carry: `<first>-<last>`, both inclusive, with or without a `bytes` before it and a
/// `/<size>` behind it.
pub(crate) fn parse_chunk(header: &str) -> Option<Range<u64>> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (decimal(first)?, decimal(last)?);
    let end = last.checked_add(1)?;
    (first < end).then_some(first..end)
}

/// Digits only (no sign, no blank). What is beyond 64 bits is the largest number there is: for a pull it means "to the
/// end"; a chunk cannot be that long.
fn decimal(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_suffix_and_open_ended_ranges_are_understood() {
        for (header, want) in [
            ("bytes=0-9", Requested::Part(0..10)),
            ("bytes=10-", Requested::Part(10..100)),
            ("bytes=-10", Requested::Part(90..100)),
            ("bytes=-1000", Requested::Part(0..100)),
            ("bytes=90-1000", Requested::Part(90..100)),
            ("bytes=0-99999999999999999999999", Requested::Part(0..100)),
            ("bytes=100-", Requested::Unsatisfiable),
            ("bytes=-0", Requested::Unsatisfiable),
            ("bytes=9-5", Requested::Unsatisfiable),
            ("bytes=99999999999999999999999-", Requested::Unsatisfiable),
            ("bytes=0-1,5-6", Requested::Whole),
            ("bytes=a-b", Requested::Whole),
            ("bytes=-", Requested::Whole),
            ("bytes=+1-2", Requested::Whole),
            ("lines=1-2", Requested::Whole),
            ("", Requested::Whole),
        ] {
            assert_eq!(Requested::parse(header, 100), want, "{header}");
        }
        assert_eq!(Requested::parse("bytes=0-", 0), Requested::Unsatisfiable);
    }

    #[test]
    fn chunks_are_inclusive_and_ordered() {
        for (header, want) in [
            ("0-9", Some(0..10)),
            ("10-19", Some(10..20)),
            ("bytes 10-19/*", Some(10..20)),
            ("bytes=10-19", Some(10..20)),
            ("9-0", None),
            ("abc", None),
            ("-5", None),
            ("5-", None),
            ("0-99999999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(parse_chunk(header), want, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_range_never_leaves_its_blob(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size: u64) {
            if let Requested::Part(range) = Requested::parse(&header, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn no_header_makes_the_parsers_panic(header: String, size: u64) {
            let _ = (Requested::parse(&header, size), parse_chunk(&header));
        }

        #[test]
        fn a_chunk_reads_as_it_was_written(first in 0..u64::MAX / 2, length in 1..u64::MAX / 2) {
            let header = format!("{first}-{}", first + length - 1);
            prop_assert_eq!(parse_chunk(&header), Some(first..first + length));
        }
    }
}

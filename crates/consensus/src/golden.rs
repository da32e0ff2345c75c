//! Comparing encodings with those that have landed.

use std::fmt::Write;

/// Compares what is encoded now with a file of lines `name: hexadecimal digits`, and returns the bytes of the file. A
/// new line may be added to the file; one that is there is never changed.
pub(crate) fn check<'a>(landed: &str, encoded: impl Iterator<Item = (&'a str, Vec<u8>)>) -> Vec<Vec<u8>> {
    let hex = |bytes: Vec<u8>| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("text grows");
            text
        })
    };
    let found: Vec<String> =
        encoded.map(|(name, bytes)| format!("{name}: {}", hex(bytes)).trim_end().to_owned()).collect();
    assert_eq!(found, landed.lines().collect::<Vec<_>>(), "encoded now:\n{}\n", found.join("\n"));
    landed.lines().map(bytes_of).collect()
}

fn bytes_of(line: &str) -> Vec<u8> {
    let digits = line.split_once(':').expect("a name").1.trim();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

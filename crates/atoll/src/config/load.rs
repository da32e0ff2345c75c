//! Reading a TOML file, with errors that say which line, which key, and what was meant.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has an unknown key, a wrong type or a missing one.
    #[error("{}:{line}: {problem}", file.display())]
    Invalid {
        /// Which.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What.
        problem: String,
    },
    /// Its parts do not fit together, or it asks for what is not allowed.
    #[error("{}: {problem}", file.display())]
    Refused {
        /// Which.
        file: PathBuf,
        /// What, and what to do.
        problem: String,
    },
}

/// Reads a file of at most 1 MiB.
pub(crate) fn parse_file<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    const FILE_BYTES_MAX: u64 = 1 << 20;
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        let problem = "it has more than 1 MiB, which no configuration needs".into();
        return Err(ConfigError::Refused { file: file.to_owned(), problem });
    }
    parse(file, &std::fs::read_to_string(file).map_err(unreadable)?)
}

/// Reads text; `file` is only named in errors.
pub(crate) fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
        ConfigError::Invalid { file: file.to_owned(), line, problem: explain(error.message()) }
    })
}

/// serde's words for an unknown key, turned into ours with the nearest known key.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(key)) => {
            let known: Vec<&str> = quoted.collect();
            let nearest = nearest(key, &known).map_or_else(String::new, |k| format!("; did you mean \"{k}\"?"));
            format!("unknown key \"{key}\"{nearest} Known here: {}", known.join(", "))
        }
        _ => message.replace("missing field", "missing key"),
    }
}

/// The known key that a person most likely meant, if one is near enough.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, nearest) = known.iter().map(|k| (edit_distance(key, k), *k)).min()?;
    (distance <= 1 + key.chars().count() / 3).then_some(nearest)
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RaftSection;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let text = "# timing\nelection_min_ms = 10\nhartbeat_ms = 5\n";
        let error = parse::<RaftSection>(Path::new("node.toml"), text).unwrap_err().to_string();
        assert!(
            error.starts_with("node.toml:3: unknown key \"hartbeat_ms\"; did you mean \"heartbeat_ms\"?"),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_suggested_for_a_key_that_is_far_from_all() {
        let error = parse::<RaftSection>(Path::new("node.toml"), "zzz = 1").unwrap_err().to_string();
        assert!(error.starts_with("node.toml:1: unknown key \"zzz\"") && !error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_wrong_type_and_broken_text_are_named_with_their_line() {
        for text in ["\nheartbeat_ms = \"soon\"", "\nheartbeat_ms ="] {
            let error = parse::<RaftSection>(Path::new("node.toml"), text).unwrap_err().to_string();
            assert!(error.starts_with("node.toml:2: "), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = parse_file::<RaftSection>(Path::new("/nowhere/node.toml")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/node.toml"), "{error}");
    }

    proptest! {
        #[test]
        fn edit_distance_is_a_metric(a in "[a-c]{0,6}", b in "[a-c]{0,6}", c in "[a-c]{0,6}") {
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
            prop_assert!(edit_distance(&a, &c) <= edit_distance(&a, &b) + edit_distance(&b, &c));
        }
    }
}

//! Planted bugs: each is switched on by name in a build that has them, and must be caught by the checker of its
//! invariant; without it the same seed must pass.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::failpoints::literals;
use crate::runs::{self, Request, Verdict};

const MARK: &str = "planted!(\"";
const VARIABLE: &str = "ATOLL_PLANTED";

/// A line of the corpus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Planted {
    pub(crate) name: String,
    /// Whose checker has to catch it.
    pub(crate) invariant: String,
    pub(crate) run: String,
    pub(crate) seed: u64,
    /// Within so many.
    pub(crate) rounds: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    #[serde(default)]
    planted: Vec<Planted>,
}

/// The corpus of a checkout; it must name every bug that the sources have, and no other.
pub(crate) fn corpus(checkout: &Path) -> anyhow::Result<Vec<Planted>> {
    let file = checkout.join("chaos/corpus/planted.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let corpus = parse(&text).with_context(|| file.display().to_string())?;
    let sources = literals(&checkout.join("crates"), MARK)?;
    let listed: BTreeSet<String> = corpus.iter().map(|p| p.name.clone()).collect();
    if let Some(name) = sources.symmetric_difference(&listed).next() {
        bail!("the planted bug {name:?} is either in the sources or in {}, and must be in both", file.display());
    }
    Ok(corpus)
}

fn parse(text: &str) -> anyhow::Result<Vec<Planted>> {
    let corpus: Corpus = toml::from_str(text)?;
    for planted in &corpus.planted {
        if runs::find(&planted.run).is_none() {
            bail!("{}: there is no run {:?}", planted.name, planted.run);
        }
    }
    Ok(corpus.planted)
}

/// Runs each; the names of those that were not caught, or whose seed does not pass without them.
pub(crate) fn run(corpus: &[Planted], planted_binary: &Path, request: &Request) -> anyhow::Result<Vec<String>> {
    let mut missed = Vec::new();
    for planted in corpus {
        let Some(run) = runs::find(&planted.run) else { continue };
        let request = Request { rounds: planted.rounds, seed: planted.seed, ..request.clone() };
        let environment = vec![(VARIABLE.to_owned(), planted.name.clone())];
        let binary: PathBuf = planted_binary.to_owned();
        println!("== planted: {}", planted.name);
        let verdict = runs::run(run, &Request { binary, environment, ..request.clone() })?;
        if !caught(&verdict, &planted.invariant) {
            missed.push(format!("{} was not caught by {}: {verdict:?}", planted.name, planted.invariant));
            continue;
        }
        if let Verdict::Violated(violations) = runs::run(run, &request)? {
            missed.push(format!("without {} its seed fails too: {violations:?}", planted.name));
        }
    }
    Ok(missed)
}

fn caught(verdict: &Verdict, invariant: &str) -> bool {
    matches!(verdict, Verdict::Violated(violations) if violations.iter().any(|v| v.invariant == invariant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Violation;

    const LINE: &str = "[[planted]]\nname = \"x\"\ninvariant = \"I1\"\nrun = \"kill\"\nseed = 7\nrounds = 2\n";

    #[test]
    fn a_corpus_is_read_and_an_unknown_run_is_refused() {
        assert_eq!(parse(LINE).unwrap()[0].seed, 7);
        assert!(parse(&LINE.replace("kill", "nothing")).is_err());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn the_corpus_names_what_the_sources_have() {
        let checkout = tempfile::tempdir().unwrap();
        let at = |path: &str| checkout.path().join(path);
        std::fs::create_dir_all(at("crates/a")).unwrap();
        std::fs::create_dir_all(at("chaos/corpus")).unwrap();
        std::fs::write(at("chaos/corpus/planted.toml"), LINE).unwrap();
        assert!(corpus(checkout.path()).is_err());
        std::fs::write(at("crates/a/a.rs"), "if planted!(\"x\") {}").unwrap();
        assert_eq!(corpus(checkout.path()).unwrap().len(), 1);
    }

    #[test]
    fn only_its_own_checker_catches_a_bug() {
        let violated = |invariant| Verdict::Violated(vec![Violation { invariant, what: String::new() }]);
        assert!(caught(&violated("I1"), "I1"));
        assert!(!caught(&violated("I2"), "I1"));
        assert!(!caught(&Verdict::Green, "I1"));
    }
}

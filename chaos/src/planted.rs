//! Planted bugs: each is switched on by name in a build that has them, and must be caught by the checker of its
//! invariant; without it the same seed must pass.

mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::checkers::Violation;
use crate::failpoints::literals;
use crate::runs::{self, Request, Verdict};

const MACRO: &str = "planted!(";
/// The run of those that cannot be seen from outside.
const SIMULATED: &str = "sim";
const VARIABLE: &str = "ATOLL_PLANTED";
/// Of what has to be green without a bug.
const ATTEMPTS: u64 = 2;

/// A bug of the corpus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Planted {
    pub(crate) name: String,
    /// Whose checker has to catch it.
    pub(crate) invariant: String,
    /// Another one that may be the first to see it.
    or: Option<String>,
    pub(crate) run: String,
    /// On which nodes it is switched on.
    #[serde(rename = "where")]
    at: Where,
    /// The mistake.
    #[serde(rename = "what")]
    _what: String,
    /// What brings it out.
    #[serde(rename = "how")]
    _how: String,
    /// The only failpoint at which the run kills.
    failpoint: Option<String>,
    #[serde(default = "default_seed")]
    seed: u64,
    /// Within so many it is caught.
    #[serde(default = "default_rounds")]
    rounds: u32,
}

const fn default_seed() -> u64 {
    1
}

const fn default_rounds() -> u32 {
    5
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Where {
    All,
    /// Where nodes must differ.
    One,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    #[serde(default, rename = "bug")]
    bugs: Vec<Planted>,
}

/// The corpus of a checkout; it must name every bug that the sources have, and no other.
pub(crate) fn corpus(checkout: &Path) -> anyhow::Result<Vec<Planted>> {
    let file = checkout.join("chaos/corpus/planted.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let corpus = parse(&text).with_context(|| file.display().to_string())?;
    let sources = literals(&checkout.join("crates"), MACRO)?;
    let listed: BTreeSet<String> = corpus.iter().map(|p| p.name.clone()).collect();
    if let Some(name) = sources.symmetric_difference(&listed).next() {
        bail!("the planted bug {name:?} is either in the sources or in {}, and must be in both", file.display());
    }
    Ok(corpus)
}

fn parse(text: &str) -> anyhow::Result<Vec<Planted>> {
    let corpus: Corpus = toml::from_str(text)?;
    for planted in &corpus.bugs {
        if planted.run != SIMULATED && runs::find(&planted.run).is_none() {
            bail!("{}: there is no run {:?}", planted.name, planted.run);
        }
    }
    Ok(corpus.bugs)
}

/// Runs each, and then what they ran without any of them; what was not caught, and what does not pass without it.
pub(crate) fn run(corpus: &[Planted], planted_binary: &Path, request: &Request) -> Vec<String> {
    let mut failed = Vec::new();
    for (at, planted) in corpus.iter().enumerate() {
        println!("== planted {} of {}: {}", at + 1, corpus.len(), planted.name);
        if let Err(why) = try_out(planted, planted_binary, request) {
            let missed = format!("{}: {why:#}", planted.name);
            println!("{missed}");
            failed.push(missed);
        }
    }
    for plain in without(corpus) {
        println!("== without a bug: {}", plain.run);
        if let Err(why) = try_without(plain, request) {
            failed.push(format!("{} without a bug: {why:#}", plain.run));
        }
    }
    failed
}

fn try_out(planted: &Planted, planted_binary: &Path, request: &Request) -> anyhow::Result<()> {
    let Some(run) = runs::find(&planted.run) else { return simulated::try_out(planted) };
    let verdict = runs::run(run, &with_bug(&planted.request(request), planted, planted_binary))?;
    if !planted.is_caught(&verdict) {
        bail!("not caught by {}: {verdict:?}", planted.invariants().join(" or "));
    }
    Ok(())
}

/// What bugs have in common is run once, for as many rounds as the slowest of them has: a seed's first rounds are the
/// same however many follow.
fn without(corpus: &[Planted]) -> Vec<&Planted> {
    let mut longest: BTreeMap<_, &Planted> = BTreeMap::new();
    for planted in corpus {
        let plain = longest.entry((&planted.run, planted.seed, &planted.failpoint)).or_insert(planted);
        if planted.rounds > plain.rounds {
            *plain = planted;
        }
    }
    longest.into_values().collect()
}

fn try_without(planted: &Planted, request: &Request) -> anyhow::Result<()> {
    let Some(run) = runs::find(&planted.run) else { return simulated::try_without(planted) };
    green(|_| runs::run(run, &planted.request(request)))
}

/// Green, at the second attempt at the latest: one whose plan was not met has not passed, and may have met a busy
/// machine. A violation is one at once.
fn green(mut attempt: impl FnMut(u64) -> anyhow::Result<Verdict>) -> anyhow::Result<()> {
    let mut short = Vec::new();
    for number in 0..ATTEMPTS {
        match attempt(number)? {
            Verdict::Green => return Ok(()),
            Verdict::Violated(violations) => bail!("violated: {violations:?}"),
            Verdict::Invalid(why) => short = why,
        }
    }
    bail!("{ATTEMPTS} times the plan was not met: {}", short.join("; "))
}

impl Planted {
    fn invariants(&self) -> Vec<String> {
        [Some(self.invariant.clone()), self.or.clone()].into_iter().flatten().collect()
    }

    fn is_caught(&self, verdict: &Verdict) -> bool {
        let invariants = self.invariants();
        let is_its = |v: &Violation| invariants.iter().any(|i| *i == v.invariant);
        matches!(verdict, Verdict::Violated(violations) if violations.iter().any(is_its))
    }

    fn request(&self, request: &Request) -> Request {
        Request { rounds: self.rounds, seed: self.seed, failpoint: self.failpoint.clone(), ..request.clone() }
    }
}

fn with_bug(request: &Request, planted: &Planted, binary: &Path) -> Request {
    let until = planted.invariants();
    let mut request = Request { binary: binary.to_owned(), until, ..request.clone() };
    let variable = vec![(VARIABLE.to_owned(), planted.name.clone())];
    match planted.at {
        Where::All => request.environment = variable,
        Where::One => request.environment_of_one = variable,
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "[[bug]]\nname = \"x\"\ninvariant = \"I1\"\nrun = \"kill\"\nwhere = \"one\"\nwhat = \"\"\nhow = \"\"\nseed = 7\n";

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
        std::fs::create_dir_all(at("crates/a/src")).unwrap();
        std::fs::create_dir_all(at("chaos/corpus")).unwrap();
        std::fs::write(at("chaos/corpus/planted.toml"), LINE).unwrap();
        assert!(corpus(checkout.path()).is_err());
        std::fs::write(at("crates/a/src/a.rs"), "if planted!(\"x\") {}").unwrap();
        assert_eq!(corpus(checkout.path()).unwrap().len(), 1);
    }

    #[test]
    fn what_bugs_have_in_common_is_run_once_without_them() {
        let bug = |run: &str, rounds: u32| parse(&format!("{}rounds = {rounds}\n", LINE.replace("kill", run))).unwrap();
        let corpus: Vec<_> = [bug("kill", 2), bug("power", 1), bug("kill", 5), bug("kill", 3)].concat();
        let plain: Vec<_> = without(&corpus).iter().map(|p| (p.run.as_str(), p.rounds)).collect();
        assert_eq!(plain, [("kill", 5), ("power", 1)]);
    }

    #[test]
    fn what_is_not_green_without_a_bug_has_not_passed() {
        let tried = |verdicts: &[Verdict]| {
            let mut left = verdicts.iter().cloned();
            let is_green = green(|_| left.next().context("there is no third attempt")).is_ok();
            (is_green, left.count())
        };
        let (short, violated) = (Verdict::Invalid(vec!["idle".into()]), Verdict::Violated(Vec::new()));
        assert_eq!(tried(&[Verdict::Green, Verdict::Green]), (true, 1));
        assert_eq!(tried(&[short.clone(), Verdict::Green]), (true, 0));
        assert_eq!(tried(&[short.clone(), short.clone(), Verdict::Green]), (false, 1));
        assert_eq!(tried(&[violated.clone(), Verdict::Green]), (false, 1));
        assert_eq!(tried(&[short, violated]), (false, 0));
        assert!(green(|_| bail!("the harness failed")).is_err());
    }

    #[test]
    fn only_its_own_checker_catches_a_bug() {
        let violated = |invariant| Verdict::Violated(vec![Violation { invariant, what: String::new() }]);
        let bug = |text: &str| parse(text).unwrap().remove(0);
        assert!(bug(LINE).is_caught(&violated("I1")));
        assert!(!bug(LINE).is_caught(&violated("I2")));
        assert!(!bug(LINE).is_caught(&Verdict::Green));
        assert!(bug(&format!("{LINE}or = \"I2\"\n")).is_caught(&violated("I2")));
    }
}

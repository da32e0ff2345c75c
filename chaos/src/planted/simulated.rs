//! Bugs of the state machine that no node tells of: the simulation has them, too, and its checkers.

use anyhow::{Context, bail};

use super::{Planted, green};
use crate::runs::Verdict;
use crate::{INVALID, SIMULATED_SEEDS, VIOLATED, simulation};

/// As many seeds as the corpus has rounds, with the bug: one of them must tell of its invariant.
pub(super) fn try_out(planted: &Planted) -> anyhow::Result<()> {
    let (code, told) = simulate(planted.seed, planted.rounds.into(), Some(&planted.name))?;
    let is_told = told.lines().any(|line| planted.invariants().iter().any(|i| names(line, i)));
    if code == Some(VIOLATED.into()) && is_told {
        Ok(())
    } else {
        bail!("not caught by the simulation, which ended with {code:?}")
    }
}

/// The same seeds without it, and as many more as it takes until every fault has fired. A seed does the same again and
/// again, so that a second attempt has others.
pub(super) fn try_without(planted: &Planted) -> anyhow::Result<()> {
    green(|attempt| {
        let (code, told) = simulate(planted.seed + attempt * SIMULATED_SEEDS, SIMULATED_SEEDS, None)?;
        verdict(code, &told)
    })
}

fn verdict(code: Option<i32>, told: &str) -> anyhow::Result<Verdict> {
    match code.map(u8::try_from) {
        Some(Ok(0)) => Ok(Verdict::Green),
        Some(Ok(INVALID)) => Ok(Verdict::Invalid(vec!["a fault of the simulation never fired".to_owned()])),
        Some(Ok(VIOLATED)) => bail!("violated in the simulation:\n{told}"),
        _ => bail!("the simulation ended with {code:?}"),
    }
}

fn simulate(from: u64, seeds: u64, plant: Option<&str>) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = simulation::of(from, seeds, plant)?;
    let output = command.output().with_context(|| format!("cannot run {command:?}; build it"))?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// A line of a seed that failed.
fn names(line: &str, invariant: &str) -> bool {
    line.trim_start().strip_prefix(invariant).is_some_and(|rest| rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_invariant() {
        assert!(names("  I15: a counter differs", "I15"));
        assert!(!names("  I15: a counter differs", "I1"));
        assert!(!names("I15 looked at 3 times", "I15"));
    }

    #[test]
    fn only_a_simulation_that_is_green_has_passed() {
        assert_eq!(verdict(Some(0), "").unwrap(), Verdict::Green);
        assert!(matches!(verdict(Some(3), "").unwrap(), Verdict::Invalid(_)));
        for code in [Some(1), Some(2), Some(-1), None] {
            assert!(verdict(code, "").is_err(), "{code:?}");
        }
    }
}

//! Bugs of the state machine that no node tells of: the simulation has them, too, and its checkers.

use anyhow::{Context, bail};

use super::Planted;
use crate::simulation;

/// As many seeds as the corpus has rounds, with the bug: one of them must tell of its invariant.
pub(super) fn try_out(planted: &Planted) -> anyhow::Result<()> {
    let (code, told) = simulate(planted, Some(&planted.name))?;
    let is_told = told.lines().any(|line| planted.invariants().iter().any(|i| names(line, i)));
    if code == Some(1) && is_told { Ok(()) } else { bail!("not caught by the simulation, which ended with {code:?}") }
}

/// The same seeds without it.
pub(super) fn try_without(planted: &Planted) -> anyhow::Result<()> {
    match simulate(planted, None)?.0 {
        // 3: in so few seeds not every fault fires.
        Some(0 | 3) => Ok(()),
        code => bail!("the simulation ended with {code:?}"),
    }
}

fn simulate(planted: &Planted, plant: Option<&str>) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = simulation::of(planted.seed, planted.rounds.into(), plant)?;
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
}

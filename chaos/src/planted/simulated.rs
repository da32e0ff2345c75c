//! Bugs of the state machine that no node tells of: the simulation has them, too, and its checkers.

use std::process::Command;

use anyhow::{Context, bail};

use super::Planted;

/// The program of the simulation, built beside this one.
const PROGRAM: &str = "atoll-sim";
/// It has its own switch, and its own spelling.
const VARIABLE: &str = "ATOLL_SIM_PLANT";

/// As many seeds as the corpus has rounds, with the bug: one of them must tell of its invariant.
pub(super) fn try_out(planted: &Planted) -> anyhow::Result<()> {
    let (code, told) = simulate(planted, Some(&planted.name.replace('_', "-")))?;
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
    let own = std::env::current_exe().context("this program has no path")?;
    let program = own.with_file_name(PROGRAM);
    let mut command = Command::new(&program);
    command.args(["run", "--from", &planted.seed.to_string(), "--seeds", &planted.rounds.to_string()]);
    command.envs(plant.map(|plant| (VARIABLE, plant)));
    let output = command.output().with_context(|| format!("cannot run {}; build it", program.display()))?;
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

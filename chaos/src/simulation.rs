//! The simulation, which is a program of its own: faults of object stores and of the network that no process meets here, and
//! bugs of which no node tells.

use std::process::Command;

use anyhow::Context;

/// Built beside this program.
const PROGRAM: &str = "atoll-sim";
/// It has its own switch of planted bugs, and its own spelling.
const VARIABLE: &str = "ATOLL_SIM_PLANT";

/// So many seeds from one on, with a planted bug or with none: a command to be run.
pub(crate) fn of(from: u64, seeds: u64, plant: Option<&str>) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new(own.with_file_name(PROGRAM));
    command.args(["run", "--from", &from.to_string(), "--seeds", &seeds.to_string()]);
    command.envs(plant.map(|plant| (VARIABLE, plant.replace('_', "-"))));
    Ok(command)
}

//! Some seeds, in every run of the workspace's tests.

use std::process::Command;

#[test]
fn fifty_seeds_violate_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_atoll-sim")).args(["run", "--seeds", "50"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
}
